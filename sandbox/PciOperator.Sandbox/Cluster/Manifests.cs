using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.ApiServer;

namespace PciOperator.Sandbox.Cluster;

/// <summary>Applies YAML as <c>kubectl apply --server-side</c> does; the server's discovery says where each kind lives.</summary>
public static class Manifests
{
    /// <summary>The objects of a YAML text.</summary>
    public static IEnumerable<JsonObject> Read(string yaml) => Yaml.Parse(yaml).OfType<JsonObject>();

    /// <summary>Applies every document of a text, in order, and gives back what each became.</summary>
    public static async Task<IReadOnlyList<JsonObject>> ApplyAsync(
        IEntityClient client,
        string yaml,
        string fieldManager = "sandbox",
        CancellationToken ct = default
    )
    {
        var applied = new List<JsonObject>();
        foreach (JsonObject document in Read(yaml))
        {
            string path = await PathAsync(client, document, ct);
            using JsonDocument answer = await client.SendRawAsync(
                HttpMethod.Patch,
                $"{path}?fieldManager={fieldManager}&force=true",
                Encoding.UTF8.GetBytes(document.ToJsonString()),
                "application/apply-patch+yaml",
                ct
            );
            applied.Add(JsonNode.Parse(answer.RootElement.GetRawText())!.AsObject());
        }

        return applied;
    }

    /// <summary>Applies a CustomResourceDefinition and waits until its kind is served.</summary>
    public static async Task InstallCrdAsync(IEntityClient client, string yaml, CancellationToken ct = default)
    {
        JsonObject crd = (await ApplyAsync(client, yaml, ct: ct))[0];
        string path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/" + crd["metadata"]!["name"]!.GetValue<string>();
        while (!IsEstablished(crd))
        {
            await Task.Delay(50, ct);
            using JsonDocument answer = await client.GetRawAsync(path, ct);
            crd = JsonNode.Parse(answer.RootElement.GetRawText())!.AsObject();
        }

        // Established is said a moment before the paths answer.
        JsonNode spec = crd["spec"]!;
        string served = $"/apis/{spec["group"]}/{spec["versions"]![0]!["name"]}/{spec["names"]!["plural"]}?limit=1";
        while (true)
        {
            try
            {
                (await client.GetRawAsync(served, ct)).Dispose();
                return;
            }
            catch (ApiException notYet) when (notYet.IsNotFound)
            {
                await Task.Delay(50, ct);
            }
        }
    }

    private static bool IsEstablished(JsonObject crd) =>
        crd["status"]
            ?["conditions"]?.AsArray()
            .Any(c => c!["type"]!.GetValue<string>() == "Established" && c["status"]!.GetValue<string>() == "True") == true;

    private static async Task<string> PathAsync(IEntityClient client, JsonObject document, CancellationToken ct)
    {
        string version = document["apiVersion"]!.GetValue<string>();
        string kind = document["kind"]!.GetValue<string>();
        string root = version.Contains('/', StringComparison.Ordinal) ? $"/apis/{version}" : $"/api/{version}";
        using JsonDocument resources = await client.GetRawAsync(root, ct);
        JsonElement resource = resources
            .RootElement.GetProperty("resources")
            .EnumerateArray()
            .FirstOrDefault(r =>
                r.GetProperty("kind").GetString() == kind && !r.GetProperty("name").GetString()!.Contains('/', StringComparison.Ordinal)
            );
        if (resource.ValueKind == JsonValueKind.Undefined)
            throw new InvalidOperationException($"The server has no kind {kind} in {version}.");
        JsonNode metadata = document["metadata"]!;
        string ns = resource.GetProperty("namespaced").GetBoolean()
            ? $"/namespaces/{metadata["namespace"]?.GetValue<string>() ?? "default"}"
            : "";
        return $"{root}{ns}/{resource.GetProperty("name").GetString()}/{metadata["name"]}";
    }
}
