"""The method against numbers recorded from the authors' implementation."""
