package control

import "sync"

// keyedMutex is a mutex for each key in use.
type keyedMutex struct {
	mu   sync.Mutex
	held map[string]*keyLock
}

type keyLock struct {
	mu    sync.Mutex
	users int
}

// lock takes the mutex of key; the result gives it back.
func (k *keyedMutex) lock(key string) (unlock func()) {
	k.mu.Lock()
	if k.held == nil {
		k.held = make(map[string]*keyLock)
	}
	l := k.held[key]
	if l == nil {
		l = new(keyLock)
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

// ofRuntime is the key in names under which a runtime's requests for one of its
// containers take turns, before that of the container's name: a Release that
// comes while Attach still runs waits for it, and finds what it made.
func ofRuntime(runtime, id string) string { return "runtime " + runtime + " " + id }

func (k *keyedMutex) lockRuntime(runtime, id string) (unlock func()) {
	if runtime == "" {
		return func() {}
	}
	return k.lock(ofRuntime(runtime, id))
}
