"""What a run says to the experiment tracker, kept until the tracker has taken it."""
