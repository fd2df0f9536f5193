"""From presets, preset files and options to one configuration."""
