"""What is worked out of the frames: means and intervals, pairs, fronts, causes."""
