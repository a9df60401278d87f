"""The node itself: its object, lease, conditions, images and runtimes, and its orderly end."""
