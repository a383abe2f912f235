"""The picture of the mesh: a page that each sidecar serves of itself, and what gathers many into one.

roll        which sidecars there are: a file, or a directory
asking      one GET of an admin API, bounded in time and size
told        the shapes of what a sidecar tells, and whether it can be true
merging     what many tell of the same calls, made one; pure
watch       one sidecar, asked again and again, and how it is
gathering   all of them: rounds each second, and what is asked of everybody
pages       the admin API's paths, answered for all
serving     the page and the paths at one address, while the roll is followed
assets      the files of the page itself, under static/, from the wheel
"""
