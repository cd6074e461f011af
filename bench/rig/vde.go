package rig

import (
	"context"
	"path/filepath"
)

// buildVDE joins the containers by a VDE switch. Each has a TAP device that a
// process carries to the switch.
func (r *Rig) buildVDE(ctx context.Context) error {
	dir, err := r.scratch()
	if err != nil {
		return err
	}
	sock := filepath.Join(dir, "vde")
	p, err := r.start(r.World.Host, "vde_switch", "-s", sock)
	if err != nil {
		return err
	}
	if err := p.await(ctx, listening(filepath.Join(sock, "ctl"))); err != nil {
		return err
	}
	for i, c := range r.containers() {
		ns, err := r.namespace(c.name)
		if err != nil {
			return err
		}
		plug, err := r.start(ns, "vde_plug", "vde://"+sock, "tap://eth0")
		if err != nil {
			return err
		}
		if err := plug.await(ctx, func() error { _, err := ns.Index("eth0"); return err }); err != nil {
			return err
		}
		if *c.at, err = plain(ns, i); err != nil {
			return err
		}
	}
	return nil
}
