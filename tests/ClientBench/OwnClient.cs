using PciOperator.Api;
using PciOperator.Kubernetes;

namespace PciOperator.ClientBench;

/// <summary>Our client.</summary>
internal sealed class BenchClient(EntityClient client) : IBenchClient
{
    public static BenchClient To(string url) =>
        new(new EntityClient(new k8s.KubernetesClientConfiguration { Host = url }, PciOperatorJsonContext.Default));

    public Task GetAsync(string name) => client.GetAsync<PciNode>(name);

    public async Task<int> ListAsync(int count) => (await client.ListAsync<PciNode>()).Items.Count;

    public async Task WatchAsync(int events)
    {
        await foreach (WatchEvent<PciNode> _ in client.WatchAsync<PciNode>(options: new ListOptions { ResourceVersion = "1" }))
        {
            if (--events == 0)
                return;
        }
    }

    public Task PatchStatusAsync(string name) =>
        client.PatchAsync<PciNode>(name, null, EntityPatch.Merge("""{"status":{"kernelVersion":"6.1"}}"""), "status");

    public void Dispose() => client.Dispose();
}
