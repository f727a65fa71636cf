"""Sign-off: chips × times against the digital model, with an interval that counts chips and text, and a verdict."""
