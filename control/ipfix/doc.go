// Package ipfix writes flow records in the IP Flow Information Export protocol
// (RFC 7011) over UDP. It knows two templates, for IPv4 and IPv6, with the elements
// of IANA's registry, built with github.com/vmware/go-ipfix; the names of containers have no standard element.
package ipfix
