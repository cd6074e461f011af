package state

// Opening is a state that is opened beside other work. All methods may be called on nil, which
// has not begun.
type Opening struct {
	done     chan struct{} // closed when what follows is there
	store    *Store
	contents Contents
	err      error

	taken bool // by Open
}

// Begin begins with Open.
func Begin(dir string) *Opening {
	o := &Opening{done: make(chan struct{})}
	go func() {
		defer close(o.done)
		o.store, o.contents, o.err = Open(dir)
	}()
	return o
}

// Open waits for the state in dir, which becomes the caller's. It is called once.
func (o *Opening) Open(dir string) (*Store, Contents, error) {
	if o == nil {
		return Open(dir)
	}
	<-o.done
	o.taken = true
	return o.store, o.contents, o.err
}

// Attached is the same as the function, which cannot read what is open.
func (o *Opening) Attached(dir string) bool {
	if o == nil {
		return Attached(dir)
	}
	<-o.done
	return o.err == nil && o.contents.attached()
}

// Close closes a state that nobody has opened.
func (o *Opening) Close() error {
	<-o.done
	if o.taken || o.store == nil {
		return nil
	}
	return o.store.Close()
}
