"""What `octobev bundle tune` tries, measures and chooses."""
