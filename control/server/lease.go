package server

import (
	"net/http"

	"github.com/vswitch/vswitch/control/api"
)

// leases serves what a runtime asks for whose own IPAM is a plugin: it fixes
// subnets and addresses before it makes networks and containers.
func (s *server) leases(mux *router) {
	mux.Handle("POST /v1/subnets/free", s.answer(func(r *http.Request) (any, error) {
		var in api.SubnetRequest
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		return s.FreeSubnet(r.Context(), in)
	}, 200))
	mux.Handle("POST /v1/networks/{name}/leases", s.answer(func(r *http.Request) (any, error) {
		var in api.LeaseRequest
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		return s.LeaseAddress(r.Context(), r.PathValue("name"), in)
	}, 200))
	mux.Handle("DELETE /v1/networks/{name}/leases/{address}", s.answer(func(r *http.Request) (any, error) {
		return nil, s.EndLease(r.Context(), r.PathValue("name"), r.PathValue("address"))
	}, http.StatusNoContent))
	mux.Handle("PATCH /v1/containers/{name}", s.answer(func(r *http.Request) (any, error) {
		var in api.ContainerUpdate
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		return s.UpdateContainer(r.Context(), r.PathValue("name"), in)
	}, 200))
}
