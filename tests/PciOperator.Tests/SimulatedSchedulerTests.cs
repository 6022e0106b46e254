using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging.Abstractions;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Scheduling;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>On a real API server.</summary>
[Turns(4)]
public sealed class RealSimulatedSchedulerTests() : SimulatedSchedulerTests(TestApiServer.RealAsync);

/// <summary>On the sandbox's.</summary>
public sealed class SandboxSimulatedSchedulerTests() : SimulatedSchedulerTests(() => TestApiServer.SandboxAsync());

/// <summary>
/// The simulated kube-scheduler and ResourceClaim controller do what the real ones were seen to do: the same nodes (n1
/// with one processor, n2 and n3 with eight), pod (four processors), slice and claim with two requests.
/// </summary>
public abstract class SimulatedSchedulerTests(Func<Task<TestApiServer>> start) : IAsyncLifetime
{
    private const string Resource = "/apis/resource.k8s.io/v1";
    private const string Claims = Resource + "/namespaces/default/resourceclaims";
    private const string Slice = Resource + "/resourceslices/claim-u1";
    private const string Pods = "/api/v1/namespaces/default/pods";
    private readonly FakeTimeProvider _time = new();
    private TestApiServer _server = null!;
    private EntityClient _client = null!;
    private SimulatedScheduler _scheduler = null!;
    private SimulatedClaimController _claims = null!;

    public async ValueTask InitializeAsync()
    {
        _server = await start();
        _client = _server.Client();
        _scheduler = new SimulatedScheduler(_client, _time, NullLogger.Instance);
        _claims = new SimulatedClaimController(_client, _time, NullLogger.Instance);
        foreach ((string node, string cpu) in new[] { ("n1", "1"), ("n2", "8"), ("n3", "8") })
        {
            await MakeAsync(
                "/api/v1/nodes",
                $$$"""{"apiVersion":"v1","kind":"Node","metadata":{"name":"{{{node}}}","labels":{"kubernetes.io/hostname":"{{{node}}}"} } }"""
            );
            await PatchAsync($"/api/v1/nodes/{node}/status", $$$"""{"status":{"allocatable":{"cpu":"{{{cpu}}}"} } }""");
        }

        await MakeAsync(
            Resource + "/deviceclasses",
            """{"apiVersion":"resource.k8s.io/v1","kind":"DeviceClass","metadata":{"name":"pcioperator.io"},"spec":{"selectors":[{"cel":{"expression":"device.driver == \"pcioperator.io\""}}]}}"""
        );
    }

    public async ValueTask DisposeAsync()
    {
        if (_server is null)
            return;
        _client.Dispose();
        await _server.DisposeAsync();
    }

    [TurnFact]
    public async Task A_pod_waits_on_the_node_with_processors_until_every_device_is_bound()
    {
        await MakeAsync(Resource + "/resourceslices", Offer("n1", "n2"));
        await MakeAsync(Claims, Claim());
        await MakeAsync(Pods, Pod());
        await _scheduler.StepAsync();

        JsonNode claim = await GetAsync(Claims + "/c1");
        Assert.Equal(["resource.kubernetes.io/delete-protection"], claim["metadata"]!["finalizers"]!.AsArray().Select(f => f!.ToString()));
        JsonNode allocation = claim["status"]!["allocation"]!;
        Assert.NotNull(allocation["allocationTimestamp"]);
        Assert.Equal(
            """{"nodeSelectorTerms":[{"matchFields":[{"key":"metadata.name","operator":"In","values":["n2"]}]}]}""",
            allocation["nodeSelector"]!.ToJsonString()
        );
        Assert.Equal(["gpu-0", "gpu-1"], allocation["devices"]!["results"]!.AsArray().Select(r => r!["device"]!.ToString()));
        Assert.All(
            allocation["devices"]!["results"]!.AsArray(),
            r =>
            {
                Assert.Equal("""["pcioperator.io/Bound"]""", r!["bindingConditions"]!.ToJsonString());
                Assert.Equal("""["pcioperator.io/Refused"]""", r["bindingFailureConditions"]!.ToJsonString());
            }
        );
        Assert.Equal("vm", claim["status"]!["reservedFor"]![0]!["name"]!.ToString());
        JsonNode pod = await GetAsync(Pods + "/vm");
        Assert.Equal("n2", pod["status"]!["nominatedNodeName"]!.ToString());
        Assert.Null(pod["spec"]!["nodeName"]);
        Assert.Contains(
            ("Normal", "BindingConditionsPending", "waiting for binding conditions for device on node n2"),
            await EventsAsync()
        );

        await SayAsync("Bound", "gpu-0");
        await _scheduler.StepAsync();
        Assert.Null((await GetAsync(Pods + "/vm"))["spec"]!["nodeName"]);
        await SayAsync("Bound", "gpu-0", "gpu-1");
        await _scheduler.StepAsync();
        Assert.Equal("n2", (await GetAsync(Pods + "/vm"))["spec"]!["nodeName"]!.ToString());
    }

    [TurnFact]
    public async Task A_failure_condition_takes_the_allocation_back_and_the_next_one_goes_by_the_new_offer()
    {
        await MakeAsync(Resource + "/resourceslices", Offer("n1", "n2"));
        await MakeAsync(Claims, Claim());
        await MakeAsync(Pods, Pod());
        await _scheduler.StepAsync();

        JsonNode offer = JsonNode.Parse(Offer("n1", "n3"))!;
        offer["spec"]!["pool"]!["generation"] = 2;
        await PatchAsync(Slice, new JsonObject { ["spec"] = offer["spec"]!.DeepClone() }.ToJsonString());
        await SayAsync("Refused", "gpu-0", "gpu-1");
        await _scheduler.StepAsync();
        JsonNode claim = await GetAsync(Claims + "/c1");
        Assert.Null(claim["status"]?["allocation"]);
        Assert.Null(claim["status"]?["devices"]);
        Assert.Null(claim["status"]?["reservedFor"]);
        (string Type, string Reason, string Note) said = (await EventsAsync()).Single(e => e.Reason == "FailedScheduling");
        Assert.Contains("device binding failed: claim=c1, reason=Why, message=\"because\"", said.Note, StringComparison.Ordinal);

        await _scheduler.StepAsync();
        Assert.Contains(
            "\"n3\"",
            (await GetAsync(Claims + "/c1"))["status"]!["allocation"]!["nodeSelector"]!.ToJsonString(),
            StringComparison.Ordinal
        );
    }

    [TurnFact]
    public async Task Conditions_that_do_not_come_are_waited_for_as_long_as_kube_scheduler_does()
    {
        await MakeAsync(Resource + "/resourceslices", Offer("n2"));
        await MakeAsync(Claims, Claim());
        await MakeAsync(Pods, Pod());
        await _scheduler.StepAsync();
        _time.Advance(TimeSpan.FromSeconds(599));
        await _scheduler.StepAsync();
        Assert.NotNull((await GetAsync(Claims + "/c1"))["status"]!["allocation"]);
        _time.Advance(TimeSpan.FromSeconds(1));
        await _scheduler.StepAsync();
        Assert.Null((await GetAsync(Claims + "/c1"))["status"]?["allocation"]);
        Assert.Contains(await EventsAsync(), e => e.Note.Contains("device binding timeout", StringComparison.Ordinal));
    }

    [TurnFact]
    public async Task What_keeps_a_pod_from_a_node_is_said_in_its_condition_and_an_event()
    {
        await MakeAsync(Resource + "/resourceslices", Offer("n1", "n2"));
        await MakeAsync(Claims, Claim());
        await MakeAsync(Pods, Pod(cpu: "9"));
        await _scheduler.StepAsync();
        const string why = "0/3 nodes are available: 3 Insufficient cpu.";
        JsonNode said = (await GetAsync(Pods + "/vm"))["status"]!["conditions"]!.AsArray().Single()!;
        Assert.Equal(("PodScheduled", "False", "Unschedulable", why), (Word("type"), Word("status"), Word("reason"), Word("message")));
        await _scheduler.StepAsync();
        Assert.Equal([("Warning", "FailedScheduling", why)], await EventsAsync());

        await MakeAsync(Pods, Pod(name: "small", cpu: "100m"));
        await PatchAsync("/api/v1/nodes/n2", """{"spec":{"unschedulable":true}}""");
        await PatchAsync("/api/v1/nodes/n1", """{"spec":{"taints":[{"key":"a.b/c","effect":"NoSchedule"}]}}""");
        await _scheduler.StepAsync();
        Assert.Contains(
            (
                "Warning",
                "FailedScheduling",
                "0/3 nodes are available: 1 cannot allocate all claims, 1 node(s) had untolerated taint(s) {a.b/c: }, 1 node(s) were unschedulable."
            ),
            await EventsAsync()
        );
        string Word(string field) => said[field]!.ToString();
    }

    [TurnFact]
    public async Task A_selector_that_it_can_not_evaluate_is_said_and_nothing_is_allocated()
    {
        await MakeAsync(Resource + "/resourceslices", Offer("n2"));
        await MakeAsync(
            Claims,
            Claim().Replace(""".claimUID == \"u1\" """.TrimEnd(), """.claimUID.startsWith(\"u\")""", StringComparison.Ordinal)
        );
        await MakeAsync(Pods, Pod());
        await _scheduler.StepAsync();
        Assert.Null((await GetAsync(Claims + "/c1"))["status"]?["allocation"]);
        Assert.Contains(await EventsAsync(), e => e.Note.Contains("and no other CEL: device.attributes", StringComparison.Ordinal));
    }

    [TurnFact]
    public async Task Pods_that_are_there_at_the_same_time_get_a_device_once_and_share_a_claim()
    {
        await MakeAsync(Resource + "/resourceslices", Pinned("n2"));
        await MakeAsync(Claims, Claim());
        await MakeAsync(Claims, Claim("c2"));
        await MakeAsync(Pods, Pod());
        await MakeAsync(Pods, Pod("second"));
        await MakeAsync(Pods, Pod("third", "c2"));
        await _scheduler.StepAsync();
        Assert.Equal("n2", (await GetAsync(Pods + "/vm"))["spec"]!["nodeName"]!.ToString());
        Assert.Equal("n2", (await GetAsync(Pods + "/second"))["spec"]!["nodeName"]!.ToString());
        Assert.Equal(2, (await GetAsync(Claims + "/c1"))["status"]!["reservedFor"]!.AsArray().Count);
        Assert.Null((await GetAsync(Pods + "/third"))["spec"]!["nodeName"]);
        Assert.Null((await GetAsync(Claims + "/c2"))["status"]?["allocation"]);
    }

    [TurnFact]
    public async Task A_claim_whose_pods_have_ended_is_deallocated_and_can_go()
    {
        await MakeAsync(Resource + "/resourceslices", Pinned("n2"));
        await MakeAsync(Claims, Claim());
        await MakeAsync(Pods, Pod());
        await _scheduler.StepAsync();
        await _client.SendRawAsync(HttpMethod.Delete, Claims + "/c1", default);
        await _claims.StepAsync();
        Assert.NotNull((await GetAsync(Claims + "/c1"))["status"]!["allocation"]);

        await PatchAsync(Pods + "/vm/status", """{"status":{"phase":"Succeeded"}}""");
        await _claims.StepAsync();
        Assert.True((await Assert.ThrowsAsync<ApiException>(() => GetAsync(Claims + "/c1"))).IsNotFound);
    }

    [TurnFact]
    public async Task A_template_makes_a_claim_for_each_pod_and_the_claim_goes_with_it()
    {
        JsonNode claim = JsonNode.Parse(Claim())!;
        var template = new JsonObject
        {
            ["apiVersion"] = "resource.k8s.io/v1",
            ["kind"] = "ResourceClaimTemplate",
            ["metadata"] = new JsonObject { ["name"] = "pool" },
            ["spec"] = new JsonObject { ["spec"] = claim["spec"]!.DeepClone() },
        };
        await MakeAsync(Resource + "/namespaces/default/resourceclaimtemplates", template.ToJsonString());
        await MakeAsync(Resource + "/resourceslices", Pinned("n2"));
        await MakeAsync(
            Pods,
            Pod()
                .Replace("resourceClaimName", "resourceClaimTemplateName", StringComparison.Ordinal)
                .Replace("\"c1\"", "\"pool\"", StringComparison.Ordinal)
        );
        await _scheduler.StepAsync();
        Assert.Contains(await EventsAsync(), e => e.Note.Contains("ResourceClaim not created yet", StringComparison.Ordinal));
        await _claims.StepAsync();
        await _claims.StepAsync();

        JsonNode made = (await GetAsync(Claims))["items"]!.AsArray().Single()!;
        Assert.StartsWith("vm-pci-", made["metadata"]!["name"]!.ToString(), StringComparison.Ordinal);
        Assert.Equal("pci", made["metadata"]!["annotations"]!["resource.kubernetes.io/pod-claim-name"]!.ToString());
        JsonNode pod = await GetAsync(Pods + "/vm");
        Assert.Equal(pod["metadata"]!["uid"]!.ToString(), made["metadata"]!["ownerReferences"]![0]!["uid"]!.ToString());
        Assert.Equal(made["metadata"]!["name"]!.ToString(), pod["status"]!["resourceClaimStatuses"]![0]!["resourceClaimName"]!.ToString());
        await _scheduler.StepAsync();
        Assert.Equal("n2", (await GetAsync(Pods + "/vm"))["spec"]!["nodeName"]!.ToString());

        await _client.SendRawAsync(HttpMethod.Delete, Pods + "/vm", Encoding.UTF8.GetBytes("""{"gracePeriodSeconds":0}"""));
        await _claims.StepAsync();
        await _claims.StepAsync();
        Assert.Empty((await GetAsync(Claims))["items"]!.AsArray());
    }

    private static string Offer(params string[] hosts) =>
        Slices(
            $$"""{"nodeSelectorTerms":[{"matchExpressions":[{"key":"kubernetes.io/hostname","operator":"In","values":["{{string.Join("\",\"", hosts)}}"]}]}]}""",
            ""","bindsToNode":true,"bindingConditions":["pcioperator.io/Bound"],"bindingFailureConditions":["pcioperator.io/Refused"]"""
        );

    private static string Pinned(string node) =>
        Slices($$"""{"nodeSelectorTerms":[{"matchFields":[{"key":"metadata.name","operator":"In","values":["{{node}}"]}]}]}""", "");

    private static string Slices(string nodes, string more)
    {
        IEnumerable<string> devices = new[] { "gpu-0", "gpu-1" }.Select(name =>
            $$$"""{"name":"{{{name}}}","attributes":{"pcioperator.io/claimUID":{"string":"u1"},"request":{"string":"{{{name}}}"} }{{{more}}} }"""
        );
        return $$$"""
            {"apiVersion":"resource.k8s.io/v1","kind":"ResourceSlice","metadata":{"name":"claim-u1"},"spec":{"driver":"pcioperator.io","pool":{"name":"claim-u1","generation":1,"resourceSliceCount":1},
             "nodeSelector":{{{nodes}}},"devices":[{{{string.Join(',', devices)}}}]}}
            """;
    }

    private static string Claim(string name = "c1")
    {
        IEnumerable<string> requests = new[] { "gpu-0", "gpu-1" }.Select(request =>
            $$$"""{"name":"{{{request}}}","exactly":{"deviceClassName":"pcioperator.io","count":1,"selectors":[{"cel":{"expression":"device.attributes[\"pcioperator.io\"].claimUID == \"u1\" && device.attributes[\"pcioperator.io\"].request == \"{{{request}}}\""} }]} }"""
        );
        return $$$"""
            {"apiVersion":"resource.k8s.io/v1","kind":"ResourceClaim","metadata":{"name":"{{{name}}}"},"spec":{"devices":{"requests":[{{{string.Join(
                ',',
                requests
            )}}}]} } }
            """;
    }

    private static string Pod(string name = "vm", string claim = "c1", string cpu = "4") =>
        $$$"""
            {"apiVersion":"v1","kind":"Pod","metadata":{"name":"{{{name}}}"},"spec":{"resourceClaims":[{"name":"pci","resourceClaimName":"{{{claim}}}"}],
             "containers":[{"name":"compute","image":"i","resources":{"requests":{"cpu":"{{{cpu}}}"} } }]}}
            """;

    private Task SayAsync(string condition, params string[] devices) =>
        PatchAsync(
            Claims + "/c1/status",
            "{\"status\":{\"devices\":["
                + string.Join(
                    ',',
                    devices.Select(d =>
                        $$$"""{"driver":"pcioperator.io","pool":"claim-u1","device":"{{{d}}}","conditions":[{"type":"pcioperator.io/{{{condition}}}","status":"True","reason":"Why","message":"because","lastTransitionTime":"2026-01-01T00:00:00Z"}]}"""
                    )
                )
                + "]}}"
        );

    private async Task<IReadOnlyList<(string Type, string Reason, string Note)>> EventsAsync() =>
        [
            .. (await GetAsync("/apis/events.k8s.io/v1/namespaces/default/events"))["items"]!
                .AsArray()
                .Select(e => (e!["type"]!.ToString(), e["reason"]!.ToString(), e["note"]!.ToString())),
        ];

    private async Task<JsonNode> GetAsync(string path)
    {
        using JsonDocument answer = await _client.GetRawAsync(path);
        return JsonNode.Parse(answer.RootElement.GetRawText())!;
    }

    private async Task MakeAsync(string path, string body) =>
        (await _client.SendRawAsync(HttpMethod.Post, path, Encoding.UTF8.GetBytes(body))).Dispose();

    private async Task PatchAsync(string path, string body) =>
        (await _client.SendRawAsync(HttpMethod.Patch, path, Encoding.UTF8.GetBytes(body), "application/merge-patch+json")).Dispose();
}
