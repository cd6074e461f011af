// Package cni is a plugin of the Container Network Interface, versions 0.1.0 to
// 1.1.0 (https://www.cni.dev/docs/spec): a thin client that says to the daemon at
// its socket what the runtime says in the environment and on standard input. It
// holds no state; an interrupted call leaves nothing of its own.
//
// The words of a network configuration are in docs/integrations/cni.md.
package cni
