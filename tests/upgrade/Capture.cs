using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Sandbox.Hosts;
using SimulatedNode = PciOperator.Sandbox.Cluster.SimulatedNode;

// Runs in a checkout of an earlier commit (tests/upgrade/capture), with its controller, its agents and its sandbox, and keeps what these have
// written: all objects as they are stored, with their statuses, and the hosts with their journals, bound devices and VFs.
string to = args[0];
using ILoggerFactory logs = KubernetesLogging.Create(LogLevel.None, LogFormat.Text);
await using SandboxCluster cluster = await SandboxCluster.StartAsync(new SandboxClusterOptions { Log = logs.CreateLogger("capture") });
EntityClient client = cluster.Client;
cluster.StartController();
for (int i = 1; i <= 2; i++)
    await cluster.AddNodeAsync($"node-{i}", LabHosts.Create(i), LabHosts.Labels(i));
foreach (string samples in new[] { "device-specs", "aliases" })
    await Manifests.ApplyAsync(client, File.ReadAllText($"config/samples/{samples}.yaml"));
await UntilAsync(
    "inventories",
    async () =>
        (await client.ListAsync<PciNode>()).Items is { Count: 2 } nodes
        && nodes.All(n =>
            n.Status?.ObservedGeneration == n.Metadata.Generation
            && n.Status?.Devices?.Where(d => d is { Type: DeviceType.Pf, ProductId: "10c9" }).Select(d => d.NumVfs).ToList()
                is { Count: > 0 } made
            && made.All(vfs => vfs == 4)
        )
);
JsonObject before = Drivers();

// Ready ones: the samples', one whose requests have names that later versions refuse, and one beside another.
await Manifests.ApplyAsync(client, File.ReadAllText("config/samples/claims.yaml"));
await Manifests.ApplyAsync(client, Claim("names", "requests: [{name: nic, alias: a1}, {name: nic-0, alias: a1}]"));
await Manifests.ApplyAsync(client, Claim("beside", "coLocateWith: [router], numaPolicy: legacy, requests: [{name: nic, alias: a1}]"));
await Manifests.ApplyAsync(client, Claim("leaving", "requests: [{name: nic, alias: a1}]"));
await UntilAsync(
    "claims",
    async () => (await client.ListAsync<PassthroughClaim>()).Items.All(c => c.Status?.Conditions.IsTrue(Conditions.Ready) == true)
);

// One that nothing can serve, one that is deleted while a guest has its device open, and one whose agent is killed as it binds.
await Manifests.ApplyAsync(client, Claim("waits", "requests: [{name: gpus, alias: nv2080, count: 16}]"));
await UntilAsync("the one that waits", async () => (await ClaimAsync("waits")).Status?.Phase == ClaimPhase.Pending);
PassthroughClaim leaving = await ClaimAsync("leaving");
cluster.Nodes[leaving.Status!.NodeName!].Host.StartProcess("qemu", $"/dev/vfio/{leaving.Status.Devices![0].IommuGroup}");
await client.DeleteAsync<PassthroughClaim>("leaving", "default");
await UntilAsync("the one that leaves", async () => (await ClaimAsync("leaving")).Status?.Phase == ClaimPhase.Releasing);
SimulatedHost second = cluster.Nodes["node-2"].Host;
second.Fault = access =>
{
    if (access is { Before: true, Operation: SimulatedOperation.Write } && access.Path.EndsWith("/drivers_probe", StringComparison.Ordinal))
        second.CrashAgent();
};
await Manifests.ApplyAsync(client, Claim("cut", "nodeName: node-2, requests: [{name: nic, alias: a1}]"));
await UntilAsync("the one that is cut off", async () => (await ClaimAsync("cut")).Status?.Phase == ClaimPhase.Claimed);
await Task.Delay(TimeSpan.FromSeconds(2));

var objects = new JsonObject();
foreach (string kind in new[] { "pcidevicespecs", "pcialiases", "pcinodes", "passthroughclaims" })
{
    using JsonDocument list = await client.GetRawAsync($"/apis/pcioperator.io/v1alpha1/{kind}");
    JsonArray items = JsonNode.Parse(list.RootElement.GetProperty("items").GetRawText())!.AsArray();
    foreach (JsonNode? item in items)
        item!["metadata"]!.AsObject().Remove("managedFields");
    objects[kind] = items.DeepClone();
}

foreach ((string name, SimulatedNode node) in cluster.Nodes)
{
    node.Host.Fault = null;
    node.Host.SaveTo($"{to}/{name}.json");
}

File.WriteAllText($"{to}/objects.json", objects.ToJsonString());
File.WriteAllText($"{to}/drivers.json", before.ToJsonString());
return 0;

static string Claim(string name, string spec) =>
    $$"""
        apiVersion: pcioperator.io/v1alpha1
        kind: PassthroughClaim
        metadata: {name: {{name}}}
        spec: { {{spec}} }
        """;

async Task<PassthroughClaim> ClaimAsync(string name) => (await client.GetAsync<PassthroughClaim>(name, "default"))!;

static async Task UntilAsync(string what, Func<Task<bool>> holds)
{
    for (DateTime end = DateTime.UtcNow.AddMinutes(3); !await holds(); await Task.Delay(50))
    {
        if (DateTime.UtcNow > end)
            throw new TimeoutException($"waited in vain for {what}");
    }
}

JsonObject Drivers()
{
    var all = new JsonObject();
    foreach ((string name, SimulatedNode node) in cluster.Nodes)
    {
        var drivers = new JsonObject();
        foreach (string address in node.Host.Files.List("/sys/bus/pci/devices"))
        {
            string? link = node.Host.Files.ReadLink($"/sys/bus/pci/devices/{address}/driver");
            drivers[address] = link?[(link.LastIndexOf('/') + 1)..];
        }

        all[name] = drivers;
    }

    return all;
}
