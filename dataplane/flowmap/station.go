package flowmap

import "github.com/vswitch/vswitch/dataplane/header"

// MaxStations is the number of addresses that the programs can tell of, of all networks.
const MaxStations = 16384

// Flags of an Asker.
const (
	AskerHost = 1 << iota // the host, by a network's TAP
	AskerIP4              // it is told of addresses of IPv4
	AskerIP6
)

// StationGateway is a flag of a Station: all are told of it, and it is a router.
const StationGateway = 1

// Classes is the number of classes that the stations of a network may have.
const Classes = 64

// Asker is what is behind an interface, and whose MAC addresses it is told while nobody is
// there.
type Asker struct {
	Hidden  uint64 // a bit for each class of the network's stations that it is not told of
	Network uint32
	MAC     header.MAC
	Flags   uint16
	_       [4]byte
}

// StationKey is an address in a network.
type StationKey struct {
	Network uint32
	Addr    header.Addr
}

// Station is who has an address.
type Station struct {
	Port  uint32 // ifindex
	MAC   header.MAC
	Class uint8
	Flags uint8
}

// Stations are all who may ask, by interface, and of whom they are told.
type Stations struct {
	Askers map[uint32]Asker
	At     map[StationKey]Station
}
