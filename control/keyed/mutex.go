// Package keyed has a mutex for each of many keys.
package keyed

import "sync"

// Mutex is a mutex for each key in use. Its zero value is ready.
type Mutex struct {
	mu   sync.Mutex
	held map[string]*held
}

type held struct {
	mu    sync.Mutex
	users int
}

// Lock takes the mutex of key; the result gives it back. "" is no key, and its Lock takes nothing.
func (k *Mutex) Lock(key string) (unlock func()) {
	if key == "" {
		return func() {}
	}
	k.mu.Lock()
	if k.held == nil {
		k.held = make(map[string]*held)
	}
	l := k.held[key]
	if l == nil {
		l = new(held)
		k.held[key] = l
	}
	l.users++
	k.mu.Unlock()
	l.mu.Lock()
	return func() {
		l.mu.Unlock()
		k.mu.Lock()
		if l.users--; l.users == 0 {
			delete(k.held, key)
		}
		k.mu.Unlock()
	}
}
