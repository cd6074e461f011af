package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"strconv"
	"time"

	"github.com/vswitch/vswitch/bench/report"
)

// iperfPort is not one of the servers'.
const iperfPort = 5201

// iperf is a second opinion on the bulk transfer.
func iperf() Load {
	const name = "TCP bulk by iperf3"
	return Load{
		Name:     name,
		Measures: []report.Measure{{Name: name, Unit: report.BitsPerSecond, Detail: true}},
		run: func(ctx context.Context, e ends, window time.Duration) ([]float64, error) {
			rate, err := iperfRate(ctx, e, window)
			return []float64{rate}, err
		},
	}
}

func iperfRate(ctx context.Context, e ends, window time.Duration) (float64, error) {
	if _, err := exec.LookPath("iperf3"); err != nil {
		return 0, errors.New("iperf3 is not installed (package iperf3)")
	}
	ctx, cancel := context.WithTimeout(ctx, window+10*time.Second)
	defer cancel()
	port := strconv.Itoa(iperfPort)
	server := exec.CommandContext(ctx, "iperf3", "--server", "--one-off", "--port", port)
	if err := e.serverNS.Start(server); err != nil {
		return 0, fmt.Errorf("iperf3: %w", err)
	}
	defer func() {
		server.Process.Kill()
		server.Wait()
	}()
	seconds := strconv.Itoa(int(math.Ceil(window.Seconds()))) // it knows whole seconds only
	var out bytes.Buffer
	for {
		out.Reset()
		client := exec.CommandContext(ctx, "iperf3", "--client", e.server.String(), "--port", port, "--time", seconds, "--json")
		client.Stdout = &out
		if err := e.client.Start(client); err != nil {
			return 0, fmt.Errorf("iperf3: %w", err)
		}
		if client.Wait() == nil {
			break
		}
		if ctx.Err() != nil || !bytes.Contains(out.Bytes(), []byte("Connection refused")) {
			return 0, fmt.Errorf("iperf3: %s", bytes.TrimSpace(out.Bytes()))
		}
		time.Sleep(10 * time.Millisecond) // the server does not listen yet
	}
	var result struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(out.Bytes(), &result); err != nil {
		return 0, fmt.Errorf("iperf3: %w", err)
	}
	return result.End.Received.Rate, nil
}
