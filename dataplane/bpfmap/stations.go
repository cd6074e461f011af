package bpfmap

import (
	"errors"
	"maps"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/vswitch/vswitch/dataplane/flowmap"
)

// Stations implements Flows.
func (f *kernelFlows) Stations() (flowmap.Stations, error) {
	all := flowmap.Stations{Askers: make(map[uint32]flowmap.Asker), At: make(map[flowmap.StationKey]flowmap.Station)}
	err := each(f.askers, func(index uint32, a flowmap.Asker) { all.Askers[index] = a })
	return all, errors.Join(err, each(f.stations, func(k flowmap.StationKey, s flowmap.Station) { all.At[k] = s }))
}

// Tell implements Flows.
func (f *kernelFlows) Tell(s flowmap.Stations) error {
	return errors.Join(putAll(f.stations, s.At), putAll(f.askers, s.Askers))
}

// Forget implements Flows.
func (f *kernelFlows) Forget(s flowmap.Stations) error {
	return errors.Join(DeleteAll(f.askers, slices.Collect(maps.Keys(s.Askers))), DeleteAll(f.stations, slices.Collect(maps.Keys(s.At))))
}

// Placed implements Flows.
func (f *kernelFlows) Placed() (map[flowmap.StationKey]uint32, error) {
	all := make(map[flowmap.StationKey]uint32)
	err := each(f.stationKeys, func(k flowmap.StationKey, n uint32) { all[k] = n })
	return all, err
}

// Place implements Flows.
func (f *kernelFlows) Place(all map[flowmap.StationKey]uint32) error {
	return putAll(f.stationKeys, all)
}

// Displace implements Flows.
func (f *kernelFlows) Displace(keys []flowmap.StationKey) error {
	return DeleteAll(f.stationKeys, keys)
}

// StationFlows implements Flows.
func (f *kernelFlows) StationFlows(fn func(flowmap.Key, flowmap.StationFlow)) error {
	return each(f.stationFlows, fn)
}

// EndStationFlows implements Flows.
func (f *kernelFlows) EndStationFlows(keys []flowmap.Key) error {
	return DeleteAll(f.stationFlows, keys)
}

// putAll enters elements into a map, in one call.
func putAll[K comparable, V any](m *ebpf.Map, all map[K]V) error {
	if len(all) == 0 {
		return nil
	}
	keys, values := make([]K, 0, len(all)), make([]V, 0, len(all))
	for k, v := range all {
		keys, values = append(keys, k), append(values, v)
	}
	_, err := m.BatchUpdate(keys, values, nil)
	return err
}
