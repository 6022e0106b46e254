using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using k8s;
using k8s.Models;
using PciOperator.Api;

namespace PciOperator.ClientBench;

/// <summary>The library's client, with the watch that its AOT package lacks read line by line.</summary>
internal sealed class BenchClient : IBenchClient
{
    private readonly k8s.Kubernetes _client;

    private BenchClient(k8s.Kubernetes client) => _client = client;

    public static BenchClient To(string url)
    {
        KubernetesJson.AddJsonOptions(o =>
            o.TypeInfoResolver = JsonTypeInfoResolver.Combine(BenchJson.Default, PciOperatorJsonContext.Default, o.TypeInfoResolver)
        );
        return new BenchClient(new k8s.Kubernetes(new KubernetesClientConfiguration { Host = url }));
    }

    public Task GetAsync(string name) =>
        _client.CustomObjects.GetClusterCustomObjectAsync<PciNode>(PciOperatorApi.Group, PciOperatorApi.Version, "pcinodes", name);

    public async Task<int> ListAsync(int count)
    {
        var all = new List<PciNode>();
        string? next = null;
        do
        {
            var page = await _client.CustomObjects.ListClusterCustomObjectAsync<KubernetesList<PciNode>>(
                PciOperatorApi.Group,
                PciOperatorApi.Version,
                "pcinodes",
                limit: 500,
                continueParameter: next
            );
            all.AddRange(page.Items);
            next = page.Metadata.ContinueProperty;
        } while (!string.IsNullOrEmpty(next));
        return all.Count;
    }

    public async Task WatchAsync(int events)
    {
        using var response = await _client.HttpClient.GetAsync(
            new Uri($"{_client.BaseUri}apis/{PciOperatorApi.GroupVersion}/pcinodes?watch=true&resourceVersion=1"),
            HttpCompletionOption.ResponseHeadersRead
        );
        using var lines = new StreamReader(await response.Content.ReadAsStreamAsync());
        while (events-- > 0 && await lines.ReadLineAsync() is { } line)
            KubernetesJson.Deserialize<NodeEvent>(line);
    }

    public Task PatchStatusAsync(string name) =>
        _client.CustomObjects.PatchClusterCustomObjectStatusAsync<PciNode>(
            new V1Patch("""{"status":{"kernelVersion":"6.1"}}""", V1Patch.PatchType.MergePatch),
            PciOperatorApi.Group,
            PciOperatorApi.Version,
            "pcinodes",
            name
        );

    public void Dispose() => _client.Dispose();
}

internal sealed record NodeEvent
{
    [JsonPropertyName("type")]
    public string? Type { get; set; }

    [JsonPropertyName("object")]
    public PciNode? Node { get; set; }
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    UseStringEnumConverter = true
)]
[JsonSerializable(typeof(KubernetesList<PciNode>))]
[JsonSerializable(typeof(NodeEvent))]
[JsonSerializable(typeof(System.Text.Json.JsonElement))]
internal sealed partial class BenchJson : JsonSerializerContext;
