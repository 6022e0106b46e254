using System.Text;
using System.Text.Json.Nodes;
using k8s.Models;
using PciOperator.Kubernetes;

namespace PciOperator.Sandbox.Cluster;

/// <summary>
/// What a kubelet and the DaemonSet controller do for a node, as far as our programs look: the Node, and the pod of its agent.
/// </summary>
public sealed class SimulatedKubelet(IEntityClient client, string node, string ns = SandboxCluster.Namespace, Func<string>? bootId = null)
{
    /// <summary>The pod of the node's agent.</summary>
    public string AgentPod => $"pcioperator-agent-{node}";

    /// <summary>Makes the Node and says that it is Ready.</summary>
    public async Task RegisterAsync(IReadOnlyDictionary<string, string>? labels = null, CancellationToken ct = default)
    {
        var all = new JsonObject { ["kubernetes.io/hostname"] = node };
        foreach ((string key, string value) in labels ?? new Dictionary<string, string>())
            all[key] = value;
        await CreateAsync(
            "/api/v1/nodes",
            new JsonObject
            {
                ["apiVersion"] = "v1",
                ["kind"] = "Node",
                ["metadata"] = new JsonObject { ["name"] = node, ["labels"] = all },
            },
            ct
        );
        await TellFactsAsync(ct);
        await SetNodeReadyAsync(true, ct);
    }

    /// <summary>Says what machine it is and in which boot, as a kubelet does when it starts.</summary>
    public async Task TellFactsAsync(CancellationToken ct = default) =>
        (
            await client.SendRawAsync(
                HttpMethod.Patch,
                $"/api/v1/nodes/{node}/status",
                Encoding.UTF8.GetBytes(Facts().ToJsonString()),
                "application/merge-patch+json",
                ct
            )
        ).Dispose();

    /// <summary>What <c>kubectl describe node</c> shows of a machine.</summary>
    private JsonObject Facts()
    {
        static JsonObject Resources(string cpu, string memory) =>
            new()
            {
                ["cpu"] = cpu,
                ["memory"] = memory,
                ["ephemeral-storage"] = "100Gi",
                ["pods"] = "110",
            };
        return new JsonObject
        {
            ["status"] = new JsonObject
            {
                ["capacity"] = Resources("64", "256Gi"),
                ["allocatable"] = Resources("63", "250Gi"),
                ["addresses"] = new JsonArray(new JsonObject { ["type"] = "Hostname", ["address"] = node }),
                ["nodeInfo"] = new JsonObject
                {
                    ["architecture"] = "amd64",
                    ["operatingSystem"] = "linux",
                    ["osImage"] = "simulated",
                    ["kernelVersion"] = "simulated",
                    ["kubeletVersion"] = "v1.36.0-simulated",
                    ["kubeProxyVersion"] = "",
                    ["containerRuntimeVersion"] = "simulated://1",
                    ["machineID"] = node,
                    ["systemUUID"] = node,
                    ["bootID"] = bootId?.Invoke() ?? "",
                },
            },
        };
    }

    /// <summary>Sets the Node's Ready condition, and leaves others alone.</summary>
    public Task SetNodeReadyAsync(bool ready, CancellationToken ct = default) =>
        client.PatchAsync<V1Node>(
            node,
            null,
            EntityPatch.Strategic(
                new JsonObject
                {
                    ["status"] = new JsonObject
                    {
                        ["conditions"] = new JsonArray(Condition(ready, ready ? "KubeletReady" : "NodeStatusUnknown")),
                    },
                }.ToJsonString()
            ),
            "status",
            ct
        );

    /// <summary>Makes the agent's pod if it is not there, and says whether it is Ready.</summary>
    public async Task SetAgentReadyAsync(bool ready, CancellationToken ct = default)
    {
        if (await client.GetAsync<V1Pod>(AgentPod, ns, ct) is null)
        {
            await CreateAsync(
                $"/api/v1/namespaces/{ns}/pods",
                new JsonObject
                {
                    ["apiVersion"] = "v1",
                    ["kind"] = "Pod",
                    ["metadata"] = new JsonObject
                    {
                        ["name"] = AgentPod,
                        ["namespace"] = ns,
                        ["labels"] = new JsonObject
                        {
                            ["app.kubernetes.io/name"] = "pcioperator",
                            ["app.kubernetes.io/component"] = "agent",
                        },
                    },
                    ["spec"] = new JsonObject
                    {
                        ["nodeName"] = node,
                        ["containers"] = new JsonArray(new JsonObject { ["name"] = "agent", ["image"] = "pcioperator-agent" }),
                    },
                },
                ct
            );
        }

        await client.PatchAsync<V1Pod>(
            AgentPod,
            ns,
            EntityPatch.Merge(
                new JsonObject
                {
                    ["status"] = new JsonObject { ["phase"] = "Running", ["conditions"] = new JsonArray(Condition(ready, null)) },
                }.ToJsonString()
            ),
            "status",
            ct
        );
    }

    /// <summary>Removes the Node and the pod, as when a machine is taken out of the cluster.</summary>
    public async Task RemoveAsync(CancellationToken ct = default)
    {
        await client.DeleteAsync<V1Pod>(AgentPod, ns, new DeleteOptions { GracePeriodSeconds = 0 }, ct);
        await client.DeleteAsync<V1Node>(node, ct: ct);
    }

    private static JsonObject Condition(bool ready, string? reason)
    {
        var condition = new JsonObject
        {
            ["type"] = "Ready",
            ["status"] = ready ? "True" : "False",
            ["lastTransitionTime"] = DateTimeOffset.UtcNow.ToString("yyyy-MM-ddTHH:mm:ssZ"),
        };
        if (reason is not null)
        {
            // A Node's: it has a reason, and the time of its last word.
            condition["reason"] = reason;
            condition["lastHeartbeatTime"] = condition["lastTransitionTime"]!.GetValue<string>();
        }

        return condition;
    }

    private async Task CreateAsync(string path, JsonObject obj, CancellationToken ct)
    {
        try
        {
            (await client.SendRawAsync(HttpMethod.Post, path, Encoding.UTF8.GetBytes(obj.ToJsonString()), ct: ct)).Dispose();
        }
        catch (ApiException there) when (there.IsAlreadyExists)
        {
            // From an earlier start.
        }
    }
}
