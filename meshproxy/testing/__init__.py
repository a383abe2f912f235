"""For tests of services that live behind meshproxy: a mesh in the test's own process, and allow-lists as assertions.

    mesh       `Mesh`: a throw-away CA, sidecars on loopback in a thread, what they decided and told
    clock      the time of day that all of it goes by, moved by the test
    asking     `assert_allowed`, `assert_denied`: an allow-list without any sidecar
    member     one sidecar of the mesh            issuer   its identities
    backstage  the thread with trio's loop        lists    allow-lists from a file, a directory, a text

The pytest plugin around it is `meshproxy.pytest_plugin`; nothing here needs pytest, and no running sidecar needs this.
"""

from meshproxy.settings.schema import Limits
from meshproxy.testing.asking import assert_allowed, assert_denied
from meshproxy.testing.clock import Clock
from meshproxy.testing.fault import MeshError
from meshproxy.testing.mesh import Decision, Mesh, Place

__all__ = ["Clock", "Decision", "Limits", "Mesh", "MeshError", "Place", "assert_allowed", "assert_denied"]
