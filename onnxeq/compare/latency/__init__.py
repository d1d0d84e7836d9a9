"""What each of the compared models costs to run: latency, throughput, memory, load time.

``measuring`` is the straight line; ``turns`` asks the models in turn; ``statistics`` makes figures and intervals of
what they answer; ``reaching`` sets them against accuracy.
"""
