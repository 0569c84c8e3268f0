"""Records of measurements: their form, where they are kept, and the tables made of them.

Free of torch, so that comparing and viewing start at once, on any machine.
"""
