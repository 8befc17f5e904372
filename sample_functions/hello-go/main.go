// A compiled function: the Runtime API loop with nothing but the standard
// library, in one static binary that needs no files beside it.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
)

type event struct {
	Name string `json:"name"`
}

type answer struct {
	Message string `json:"message"`
	Runtime string `json:"runtime"`
}

func handle(e event) answer {
	if e.Name == "" {
		e.Name = "world"
	}
	fmt.Println("greeting", e.Name)
	return answer{"Hello, " + e.Name + "!", runtime.Version()}
}

func main() {
	api := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for {
		if err := serve(api); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// serve waits for one event, without a limit, and answers it.
func serve(api string) error {
	next, err := http.Get(api + "next")
	if err != nil {
		return err
	}
	defer next.Body.Close()
	id := next.Header.Get("Lambda-Runtime-Aws-Request-Id")
	body, err := io.ReadAll(next.Body)
	if err != nil {
		return err
	}
	var e event
	if err := json.Unmarshal(body, &e); err != nil {
		return post(api+id+"/error", map[string]string{"errorType": "InvalidEvent", "errorMessage": err.Error()})
	}
	return post(api+id+"/response", handle(e))
}

func post(url string, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	response, err := http.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, response.Body)
	return response.Body.Close()
}
