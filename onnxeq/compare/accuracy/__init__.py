"""How often each model is right on labelled items, and whether two of them differ by more than chance.

====================  ==============================================================================
:mod:`.values`        what is returned
:mod:`.asked`         what the user asked for, checked before any work
:mod:`.datasets`      the items: folders of pictures, arrays, the digits
:mod:`.classes`       which class a folder is: by number, by a class map, by what an installed zoo knows
:mod:`.entrants`      each model with its recipe and with the accuracy that its zoo publishes
:mod:`.fitting`       an item's axes as a model takes them
:mod:`.predicting`    the predictions, item by item and never all prepared pictures at once
:mod:`.statistics`    Wilson's interval, McNemar's exact test, Holm's correction
:mod:`.measuring`     the straight line: from items and models to figures
====================  ==============================================================================
"""
