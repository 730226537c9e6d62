"""Personal data in texts: found by patterns with check digits, masked, or replaced by consistent stand-ins."""
