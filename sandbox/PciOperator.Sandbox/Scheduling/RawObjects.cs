using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using PciOperator.Kubernetes;

namespace PciOperator.Sandbox.Scheduling;

/// <summary>Objects as the server has them, without a model: what Kubernetes' own components look at is more than our programs keep.</summary>
internal sealed class RawObjects(IEntityClient client)
{
    /// <summary>All objects of a collection; none when the server has no such kind.</summary>
    public async Task<IReadOnlyList<JsonObject>> ListAsync(string path, CancellationToken ct)
    {
        try
        {
            using JsonDocument answer = await client.GetRawAsync(path, ct);
            return [.. JsonNode.Parse(answer.RootElement.GetRawText())!["items"]?.AsArray().OfType<JsonObject>() ?? []];
        }
        catch (ApiException none) when (none.IsNotFound)
        {
            return [];
        }
    }

    /// <summary>One object, or null.</summary>
    public async Task<JsonObject?> GetAsync(string path, CancellationToken ct)
    {
        try
        {
            using JsonDocument answer = await client.GetRawAsync(path, ct);
            return JsonNode.Parse(answer.RootElement.GetRawText())!.AsObject();
        }
        catch (ApiException none) when (none.IsNotFound)
        {
            return null;
        }
    }

    /// <summary>Makes an object; what it became.</summary>
    public Task<JsonObject> CreateAsync(string path, JsonObject obj, CancellationToken ct) =>
        SendAsync(HttpMethod.Post, path, obj, "application/json", ct);

    /// <summary>Merges a change into an object that is still as it was read.</summary>
    /// <exception cref="ApiException">It is not (conflict), or the server refuses.</exception>
    public Task<JsonObject> PatchAsync(string path, JsonObject read, JsonObject change, CancellationToken ct)
    {
        JsonObject metadata = change["metadata"]?.AsObject() ?? [];
        metadata["resourceVersion"] = read.Text("metadata", "resourceVersion");
        metadata["uid"] = read.Text("metadata", "uid");
        change["metadata"] = metadata;
        return SendAsync(HttpMethod.Patch, path, change, "application/merge-patch+json", ct);
    }

    /// <summary>Deletes just this object; nothing happens when it is gone.</summary>
    public async Task DeleteAsync(string path, JsonObject read, CancellationToken ct)
    {
        try
        {
            await SendAsync(
                HttpMethod.Delete,
                path,
                new JsonObject { ["preconditions"] = new JsonObject { ["uid"] = read.Text("metadata", "uid") } },
                "application/json",
                ct
            );
        }
        catch (ApiException gone) when (gone.IsNotFound || gone.IsConflict)
        {
            // It is gone, or another one by now.
        }
    }

    private async Task<JsonObject> SendAsync(HttpMethod method, string path, JsonObject body, string type, CancellationToken ct)
    {
        using JsonDocument answer = await client.SendRawAsync(method, path, Encoding.UTF8.GetBytes(body.ToJsonString()), type, ct);
        return JsonNode.Parse(answer.RootElement.GetRawText())!.AsObject();
    }
}

/// <summary>Reading of JSON that may lack anything.</summary>
internal static class RawJson
{
    /// <summary>The value at a path, or null.</summary>
    public static JsonNode? At(this JsonNode? node, params string[] path) =>
        path.Aggregate(node, (at, key) => at is JsonObject map && map.TryGetPropertyValue(key, out JsonNode? child) ? child : null);

    /// <summary>The text at a path; empty when there is none.</summary>
    public static string Text(this JsonNode? node, params string[] path) =>
        node.At(path) is JsonValue value && value.TryGetValue(out string? text) ? text : "";

    /// <summary>The number at a path, or 0.</summary>
    public static long Number(this JsonNode? node, params string[] path) =>
        node.At(path) is JsonValue value && value.TryGetValue(out long number) ? number : 0;

    /// <summary>Whether it says true at a path.</summary>
    public static bool IsTrue(this JsonNode? node, params string[] path) =>
        node.At(path) is JsonValue value && value.TryGetValue(out bool said) && said;

    /// <summary>The objects of the list at a path.</summary>
    public static IEnumerable<JsonObject> Items(this JsonNode? node, params string[] path) =>
        (node.At(path) as JsonArray ?? []).OfType<JsonObject>();

    /// <summary>The texts of the list at a path.</summary>
    public static IReadOnlyList<string> Texts(this JsonNode? node, params string[] path) =>
        [.. (node.At(path) as JsonArray ?? []).OfType<JsonValue>().Select(v => v.ToString())];

    /// <summary>Namespace and name, for people.</summary>
    public static string Key(this JsonNode node) => $"{node.Text("metadata", "namespace")}/{node.Text("metadata", "name")}";

    /// <summary>The object's UID.</summary>
    public static string Uid(this JsonNode node) => node.Text("metadata", "uid");

    /// <summary>Whether a pod has ended.</summary>
    public static bool HasEnded(this JsonNode pod) => pod.Text("status", "phase") is "Succeeded" or "Failed";
}

/// <summary>Where the kinds are that scheduling is about.</summary>
internal static class Paths
{
    public const string Pods = "/api/v1/pods";
    public const string Nodes = "/api/v1/nodes";
    public const string Claims = "/apis/resource.k8s.io/v1/resourceclaims";
    public const string Templates = "/apis/resource.k8s.io/v1/resourceclaimtemplates";
    public const string Slices = "/apis/resource.k8s.io/v1/resourceslices";
    public const string Classes = "/apis/resource.k8s.io/v1/deviceclasses";

    public static string Pod(JsonNode pod) => $"/api/v1/namespaces/{pod.Text("metadata", "namespace")}/pods/{pod.Text("metadata", "name")}";

    public static string ClaimsOf(string ns) => $"/apis/resource.k8s.io/v1/namespaces/{ns}/resourceclaims";

    public static string Claim(JsonNode claim) => $"{ClaimsOf(claim.Text("metadata", "namespace"))}/{claim.Text("metadata", "name")}";
}
