"""What a test is told when it asks for something that cannot be."""


class MeshError(Exception):
    """Something that was asked of the mesh cannot be done, or a sidecar failed; the text is for people."""
