"""Code that was not written for Steelyard: a Ray Train script, or a plain torch loop."""
