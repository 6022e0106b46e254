using System.Collections.Concurrent;
using System.Globalization;
using System.Text.Json.Nodes;

namespace PciOperator.Sandbox.Scheduling;

/// <summary>What the scheduler says about pods, once for each thing that it says.</summary>
internal sealed class SchedulerEvents(RawObjects objects, TimeProvider time)
{
    private readonly ConcurrentDictionary<string, (string Reason, string Note)> _said = new();

    public async Task SayAsync(JsonObject pod, string type, string reason, string note, CancellationToken ct)
    {
        if (_said.TryGetValue(pod.Uid(), out (string, string) before) && before == (reason, note))
            return;
        string ns = pod.Text("metadata", "namespace");
        var said = new JsonObject
        {
            ["apiVersion"] = "events.k8s.io/v1",
            ["kind"] = "Event",
            ["metadata"] = new JsonObject { ["name"] = $"{pod.Text("metadata", "name")}.{Guid.NewGuid():N}", ["namespace"] = ns },
            ["eventTime"] = time.GetUtcNow().UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'", CultureInfo.InvariantCulture),
            ["reportingController"] = "default-scheduler",
            ["reportingInstance"] = "default-scheduler-simulated",
            ["action"] = "Scheduling",
            ["type"] = type,
            ["reason"] = reason,
            // The API's limit.
            ["note"] = note.Length > 1024 ? note[..1023] + "…" : note,
            ["regarding"] = new JsonObject
            {
                ["apiVersion"] = "v1",
                ["kind"] = "Pod",
                ["namespace"] = ns,
                ["name"] = pod.Text("metadata", "name"),
                ["uid"] = pod.Uid(),
            },
        };
        await objects.CreateAsync($"/apis/events.k8s.io/v1/namespaces/{ns}/events", said, ct);
        _said[pod.Uid()] = (reason, note);
    }
}
