"""Graphs side by side, node by node: which value is which, where error is made, and what makes it.

====================  ==================================================================