"""What a client may send, at random: nothing of it may be an error of ours, take long, or stay in memory."""
