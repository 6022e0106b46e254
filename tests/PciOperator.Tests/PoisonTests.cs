using System.Reflection;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using k8s;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>
/// One object of a kind with whatever a real API server stores stops nothing: the others' claims are served meanwhile, and after
/// controllers and agents have listed all of it.
/// </summary>
[Turns(15)]
public sealed class PoisonTests(ITestOutputHelper output)
{
    private const string Poisoned = "poison";

    [TurnFact]
    public Task Whatever_the_schema_stores_in_a_PciDeviceSpec_is_read_and_stops_nothing() =>
        StopsNothingAsync<PciDeviceSpec>(
            new JsonObject
            {
                ["devices"] = new JsonArray(new JsonObject { ["vendorId"] = "abcd" }),
                ["nodeSelector"] = new JsonObject { ["kubernetes.io/hostname"] = Poisoned },
            }
        );

    [TurnFact]
    public Task Whatever_the_schema_stores_in_a_PciAlias_is_read_and_stops_nothing() =>
        StopsNothingAsync<PciAlias>(
            new JsonObject { ["devices"] = new JsonArray(new JsonObject { ["vendorId"] = "abcd", ["productId"] = "abcd" }) }
        );

    [TurnFact]
    public Task Whatever_the_schema_stores_in_a_PciNode_is_read_and_stops_nothing() => StopsNothingAsync<PciNode>([]);

    [TurnFact]
    public Task Whatever_the_schema_stores_in_a_PassthroughClaim_is_read_and_stops_nothing() =>
        StopsNothingAsync<PassthroughClaim>(
            new JsonObject { ["requests"] = new JsonArray(new JsonObject { ["name"] = "r", ["alias"] = "nobody" }) }
        );

    private async Task StopsNothingAsync<T>(JsonObject smallest)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        var log = new RecordedLog();
        await using LabCluster lab = await (await LabCluster.StartAsync(real: true, log: log)).WithNodesAsync(2);
        await lab.WithSamplesAsync();
        await lab.ClaimAsync("before", "nvme:1");
        await lab.ReadyAsync("before");
        await PoisonedNodeAsync(lab);

        string kind = Entity<T>().Kind;
        var values = new StorableValues(await SchemaAsync(lab, Entity<T>().PluralName));
        if (typeof(T) != typeof(PciNode))
            await StoresAsync<T>(lab, HttpMethod.Post, Path<T>(), Whole(kind, Poisoned, smallest.ToJsonString()));
        (int stored, int refused) = (0, 0);
        foreach ((string what, string json) in values.Of("spec", smallest))
        {
            // A claim's spec never changes: each is another claim.
            T? read =
                typeof(T) == typeof(PassthroughClaim)
                    ? await StoresAsync<T>(lab, HttpMethod.Post, Path<T>(), Whole(kind, $"{Poisoned}-{stored}", json))
                    : await StoresAsync<T>(lab, HttpMethod.Patch, $"{Path<T>()}/{Poisoned}", Replacement("spec", json));
            (stored, refused) = read is null ? (stored, refused + 1) : (stored + 1, refused);
            Assert.True(read is null || read.Metadata.Name is not null, what);
        }

        foreach ((string what, string json) in values.Of("status"))
        {
            T? read = await StoresAsync<T>(lab, HttpMethod.Patch, $"{Path<T>()}/{Poisoned}/status", Replacement("status", json));
            (stored, refused) = read is null ? (stored, refused + 1) : (stored + 1, refused);
            Assert.True(read is null || read.Metadata.Name == Poisoned, what);
        }

        output.WriteLine($"{kind}: {stored} values stored, {refused} refused");
        Assert.True(stored > 100 && refused > 50, $"{stored} stored, {refused} refused: that is not what the schema says");
        EntityList<T> list = await lab.Client.ListAsync<T>();
        Assert.Empty(list.Unreadable);
        Assert.Contains(list.Items, i => i.Metadata.Name == Poisoned);

        await lab.ClaimAsync("meanwhile", "a1:1");
        await lab.ReadyAsync("meanwhile");
        lab.Cluster.StartController();
        await lab.Cluster.Nodes["node-1"].StopAgentAsync();
        await lab.Cluster.Nodes["node-1"].StartAgentAsync();
        await lab.ClaimAsync("after", "a1:1");
        await lab.ReadyAsync("after");
        await lab.DeleteAsync("before");
        await lab.GoneAsync("before");
        // What is decided on a spec that the test has replaced meanwhile, as nobody else may, is refused and decided again.
        string[] errors =
        [
            .. log.Errors.Where(e =>
                typeof(T) != typeof(PciNode)
                || !e.Contains(nameof(PciNodeWriter), StringComparison.Ordinal)
                || !e.Contains("error in our request", StringComparison.Ordinal)
            ),
        ];
        Assert.True(errors.Length == 0, string.Join("\n", errors));
    }

    [TurnFact]
    public async Task Others_are_served_while_one_object_of_each_kind_that_the_programs_read_is_poisoned()
    {
        var log = new RecordedLog();
        await using LabCluster lab = await (await LabCluster.StartAsync(real: true, controller: false, log: log)).WithNodesAsync(2);
        ControllerOptions elected = LabCluster.Quick with { LeaderElect = true };
        Func<Task> stop = lab.Cluster.StartController(elected);
        await lab.WithSamplesAsync();
        await lab.ClaimAsync("before", "nvme:1");
        await lab.ReadyAsync("before");
        await PoisonedNodeAsync(lab);
        // The server's own types have fewer odd times than custom resources: what it can't patch afterwards is left to these.
        (string Own, string Custom)[] times =
        [
            ("0000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00"),
        ];
        for (int round = 0; round < times.Length; round++)
        {
            (string time, string custom) = times[round];
            foreach (string node in new[] { Poisoned, "node-2" })
                await PoisonNodeAsync(lab, node, time);
            await PoisonPodAsync(lab, time);
            await PoisonEventsAsync(lab, time);
            await PoisonConditionsAsync<PciDeviceSpec>(lab, custom);
            await PoisonConditionsAsync<PciAlias>(lab, custom);
            await PoisonConditionsAsync<PciNode>(lab, custom);
            await PoisonConditionsAsync<PassthroughClaim>(lab, custom);
            await lab.ClaimAsync($"meanwhile-{round}", "a1:1");
            await lab.ReadyAsync($"meanwhile-{round}");

            // And after everybody has had to list all of it. The lease is in the hands of nobody, for as long as can be said, and was taken
            // as often as can be.
            await stop();
            await PoisonLeaseAsync(lab, time);
            foreach (SimulatedNode node in lab.Cluster.Nodes.Values)
            {
                await node.StopAgentAsync();
                await node.StartAgentAsync();
            }

            stop = lab.Cluster.StartController(elected with { Identity = $"controller-{round}" });
            await lab.ClaimAsync($"after-{round}", "a1:1");
            await lab.ReadyAsync($"after-{round}");
        }

        await lab.DeleteAsync("before");
        await lab.GoneAsync("before");
        Assert.True(!log.Errors.Any(), string.Join("\n", log.Errors));
    }

    /// <summary>A Node with a ready agent's pod and no agent.</summary>
    private static async Task PoisonedNodeAsync(LabCluster lab)
    {
        var kubelet = new SimulatedKubelet(lab.Client, Poisoned);
        await kubelet.RegisterAsync();
        await kubelet.SetAgentReadyAsync(true);
        await lab.UntilAsync("its PciNode", () => lab.Client.GetAsync<PciNode>(Poisoned), _ => true);
    }

    private static async Task PoisonNodeAsync(LabCluster lab, string node, string time)
    {
        string text = """\u0000\u001b[31m\ud800\u202e""" + new string('x', 30_000);
        await PatchAsync(
            lab,
            $"/api/v1/nodes/{node}",
            $$$"""
            {"metadata":{"annotations":{"odd":"{{{text}}}"}},"spec":{"podCIDR":"{{{text}}}","taints":[{"key":"odd","effect":"PreferNoSchedule","value":"{{{text}}}","timeAdded":"{{{time}}}"}]}}
            """
        );
        await PatchAsync(
            lab,
            $"/api/v1/nodes/{node}/status",
            $$$$"""
            {"status":{"allocatable":{"cpu":"9223372036854775807E","odd.example/x":"1e-300"},"volumesInUse":["{{{{text}}}}"],"images":[{"names":["{{{{text}}}}"],"sizeBytes":9223372036854775807}],
             "conditions":[{"type":"Ready","status":"True","reason":"KubeletReady","lastHeartbeatTime":"{{{{time}}}}","lastTransitionTime":"{{{{time}}}}"},
                           {"type":"{{{{text}}}}","status":"OfALaterVersion","message":"{{{{text}}}}","lastTransitionTime":null}]}}
            """
        );
    }

    private static async Task PoisonPodAsync(LabCluster lab, string time)
    {
        string pods = $"/api/v1/namespaces/{SandboxCluster.Namespace}/pods";
        await PatchAsync(
            lab,
            $"{pods}/pcioperator-agent-{Poisoned}/status",
            $$$$"""
            {"status":{"phase":"OfALaterVersion","startTime":"{{{{time}}}}","conditions":[
              {"type":"Ready","status":"True","lastProbeTime":"{{{{time}}}}","lastTransitionTime":"{{{{time}}}}","message":"\u0000\ud800"},{"type":"","status":""}],
             "containerStatuses":[{"name":"agent","restartCount":2147483647,"state":{"terminated":{"exitCode":-1,"startedAt":"{{{{time}}}}"}}}]}}
            """
        );
        // One more on a node that there is, and one on none.
        foreach ((string name, string node) in new[] { ("odd-1", "node-1"), ("odd-2", "") })
        {
            string pod = $$$"""
                {"apiVersion":"v1","kind":"Pod","metadata":{"name":"{{{name}}}","labels":{"app.kubernetes.io/name":"pcioperator","app.kubernetes.io/component":"agent"}},
                 "spec":{"nodeName":"{{{node}}}","containers":[{"name":"a","image":"a"}],"activeDeadlineSeconds":9223372036854775807,"priority":-2147483648}}
                """;
            await TryAsync(() => lab.Client.SendRawAsync(HttpMethod.Post, pods, Encoding.UTF8.GetBytes(pod)));
        }
    }

    private static async Task PoisonEventsAsync(LabCluster lab, string time)
    {
        EntityList<Eventsv1Event> events = await lab.UntilAsync(
            "an event",
            async () => await lab.Client.ListAsync<Eventsv1Event>("default"),
            l => l.Items.Count > 0
        );
        foreach (Eventsv1Event e in events.Items.Take(20))
        {
            await TryAsync(() =>
                lab.Client.SendRawAsync(
                    HttpMethod.Patch,
                    $"/apis/events.k8s.io/v1/namespaces/default/events/{e.Metadata.Name}",
                    Encoding.UTF8.GetBytes(
                        $$$"""{"deprecatedFirstTimestamp":"{{{time}}}","deprecatedLastTimestamp":"{{{time}}}","deprecatedCount":2147483647,"series":{"count":2147483647,"lastObservedTime":"{{{Micro(time)}}}"}}"""
                    ),
                    "application/merge-patch+json"
                )
            );
        }

        await lab.Client.ListAsync<Eventsv1Event>("default");
    }

    private static async Task PoisonLeaseAsync(LabCluster lab, string time)
    {
        string path = $"/apis/coordination.k8s.io/v1/namespaces/{SandboxCluster.ControllerNamespace}/leases/pcioperator-controller";
        await PatchAsync(
            lab,
            path,
            $$$"""
            {"metadata":{"finalizers":["odd.example/a"]},
             "spec":{"holderIdentity":"","leaseDurationSeconds":2147483647,"leaseTransitions":2147483647,"acquireTime":"{{{Micro(
                time
            )}}}","renewTime":"{{{Micro(time)}}}"}}
            """
        );
    }

    private static string Micro(string text) =>
        text.Replace("00Z", "00.000000Z", StringComparison.Ordinal).Replace("59Z", "59.999999Z", StringComparison.Ordinal);

    private static async Task PoisonConditionsAsync<T>(LabCluster lab, string time)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        string odd =
            $$$"""{"status":{"conditions":[{"type":"Odd","status":"True","reason":"Odd","message":"\u001b[31m\ud800","observedGeneration":9223372036854775807,"lastTransitionTime":"{{{time}}}"}]} }""";
        foreach (T item in (await lab.Client.ListAsync<T>()).Items)
            await PatchAsync(lab, $"{Path<T>()}/{item.Metadata.Name}/status", odd);
    }

    private static async Task PatchAsync(LabCluster lab, string path, string merge) =>
        (await lab.Client.SendRawAsync(HttpMethod.Patch, path, Encoding.UTF8.GetBytes(merge), "application/merge-patch+json")).Dispose();

    /// <summary>For what one server checks and another doesn't.</summary>
    private static async Task TryAsync(Func<Task<JsonDocument>> send)
    {
        try
        {
            (await send()).Dispose();
        }
        catch (ApiException refused)
            when (refused.StatusCode
                    is System.Net.HttpStatusCode.UnprocessableEntity
                        or System.Net.HttpStatusCode.BadRequest
                        or System.Net.HttpStatusCode.Conflict
            )
        {
            // Then it is not stored either.
        }
    }

    /// <summary>Sends it and reads the answer as programs do; null when the server refuses it.</summary>
    private static async Task<T?> StoresAsync<T>(LabCluster lab, HttpMethod method, string path, byte[] body)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        try
        {
            using JsonDocument answer = await lab.Client.SendRawAsync(
                method,
                path,
                body,
                method == HttpMethod.Patch ? "application/json-patch+json" : "application/json"
            );
            return (T)JsonSerializer.Deserialize(answer.RootElement.GetRawText(), lab.Client.JsonOptions.GetTypeInfo(typeof(T)))!;
        }
        catch (ApiException refused)
            when (refused.StatusCode is System.Net.HttpStatusCode.UnprocessableEntity or System.Net.HttpStatusCode.BadRequest)
        {
            return null;
        }
    }

    private static KubernetesEntityAttribute Entity<T>() => typeof(T).GetCustomAttribute<KubernetesEntityAttribute>()!;

    private static string Path<T>() =>
        $"/apis/{PciOperatorApi.GroupVersion}/{(typeof(T) == typeof(PassthroughClaim) ? "namespaces/default/" : "")}{Entity<T>().PluralName}";

    private static byte[] Whole(string kind, string name, string spec) =>
        Encoding.UTF8.GetBytes(
            $$$"""{"apiVersion":"{{{PciOperatorApi.GroupVersion}}}","kind":"{{{kind}}}","metadata":{"name":"{{{name}}}"},"spec":{{{spec}}} }"""
        );

    private static byte[] Replacement(string property, string json) =>
        Encoding.UTF8.GetBytes($$"""[{"op":"add","path":"/{{property}}","value":{{json}}}]""");

    private static async Task<JsonElement> SchemaAsync(LabCluster lab, string plural)
    {
        using JsonDocument crd = await lab.Client.GetRawAsync(
            $"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.{PciOperatorApi.Group}"
        );
        return crd.RootElement.GetProperty("spec").GetProperty("versions")[0].GetProperty("schema").GetProperty("openAPIV3Schema").Clone();
    }
}
