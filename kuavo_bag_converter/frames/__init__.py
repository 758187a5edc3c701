"""Pass 2: the stream through a bag that fills the table and the cameras of its frames."""
