// Package oci is a hook of OCI runtimes, runc and crun and what calls them
// (https://github.com/opencontainers/runtime-spec/blob/main/config.md#posix-platform-hooks):
// a thin client that attaches a container by its annotations and releases it by
// its identifier alone. It holds no state.
package oci
