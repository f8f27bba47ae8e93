"""Files of arrays and of instruments: one module reads each, over what they share."""
