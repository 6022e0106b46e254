using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using PciOperator.Kubernetes;

namespace PciOperator.Api.Tests;

/// <summary>What an API server says to good and bad objects of our kinds; the same for the sandbox's and a real one.</summary>
public abstract class ManifestContract(OwnKindsServer server)
{
    private const string Strict = "fieldManager=tests&fieldValidation=Strict";

    [Fact]
    public async Task Samples_are_stored()
    {
        IReadOnlyList<(string File, string Text)> samples = Manifest.Folder("samples");
        Assert.NotEmpty(samples);
        foreach (Manifest manifest in samples.SelectMany(s => Manifest.Parse(s.Text)))
            (await CreateAsync(manifest)).Dispose();
    }

    [Fact]
    public async Task Good_objects_are_stored_and_the_records_hold_all_of_them()
    {
        foreach (Manifest manifest in Manifest.Folder("good").SelectMany(s => Manifest.Parse(s.Text)))
        {
            (await CreateAsync(manifest)).Dispose();
            if (manifest.Yaml.Contains("\nstatus:\n", StringComparison.Ordinal))
                (await ReplaceAsync(manifest, "/status")).Dispose();

            using JsonDocument stored = await server.Client.GetRawAsync($"{manifest.Collection}/{manifest.Name}");
            JsonObject asStored = JsonObject.Create(stored.RootElement.Clone())!;
            asStored["metadata"]!.AsObject().Remove("managedFields");
            JsonNode? throughRecord = ThroughRecord(manifest.Kind, stored.RootElement);
            Assert.True(
                JsonNode.DeepEquals(asStored, throughRecord),
                $"{manifest.Kind} {manifest.Name}\nstored:  {asStored.ToJsonString()}\nrecord:  {throughRecord?.ToJsonString()}"
            );
        }
    }

    [Fact]
    public async Task Bad_objects_are_refused_with_a_sentence_that_helps()
    {
        IReadOnlyList<(string File, string Text)> files = Manifest.Folder("bad");
        Assert.True(files.Count >= 20);
        var wrong = new List<string>();
        foreach ((string file, string text) in files)
        {
            if (await JudgeAsync(text) is { } complaint)
                wrong.Add($"{file}: {complaint}");
        }

        Assert.True(wrong.Count == 0, string.Join("\n", wrong));
    }

    // Null when the server refuses as the file's comments say.
    private async Task<string?> JudgeAsync(string text)
    {
        var manifests = Manifest.Parse(text).ToList();
        Manifest? before = manifests.Count > 1 ? manifests[0] : null;
        Manifest bad = manifests[^1];
        if (before is not null)
            (await CreateAsync(before)).Dispose();
        try
        {
            using JsonDocument accepted = before is null ? await CreateAsync(bad) : await ReplaceAsync(bad);
            return "the server took it";
        }
        catch (ApiException e)
        {
            (string? status, string? field, string says) = (
                Manifest.Expected(text, "status"),
                Manifest.Expected(text, "field"),
                Manifest.Expected(text, "says")!
            );
            if (status != $"{(int)e.StatusCode}")
                return $"expected {status}, got {(int)e.StatusCode}: {e.Message}";
            if (!e.Message.Contains(says, StringComparison.Ordinal))
                return $"expected the words \"{says}\", got: {e.Message}";
            if (
                field is not null
                && e.Status.Details?.Causes?.Any(c => c.Field == field && c.Message!.Contains(says, StringComparison.Ordinal)) != true
            )
            {
                return $"expected that {field} is to blame, got: {e.Message}";
            }

            return null;
        }
        finally
        {
            if (before is not null)
                (await server.Client.SendRawAsync(HttpMethod.Delete, $"{before.Collection}/{before.Name}", default)).Dispose();
        }
    }

    private Task<JsonDocument> CreateAsync(Manifest manifest) =>
        server.Client.SendRawAsync(
            HttpMethod.Post,
            $"{manifest.Collection}?{Strict}",
            Encoding.UTF8.GetBytes(manifest.Yaml),
            "application/yaml"
        );

    private async Task<JsonDocument> ReplaceAsync(Manifest manifest, string subresource = "")
    {
        string path = $"{manifest.Collection}/{manifest.Name}";
        using JsonDocument current = await server.Client.GetRawAsync(path);
        string? version = current.RootElement.GetProperty("metadata").GetProperty("resourceVersion").GetString();
        string yaml = manifest.Yaml.Replace("\nmetadata:\n", $"\nmetadata:\n  resourceVersion: \"{version}\"\n", StringComparison.Ordinal);
        return await server.Client.SendRawAsync(
            HttpMethod.Put,
            $"{path}{subresource}?{Strict}",
            Encoding.UTF8.GetBytes(yaml),
            "application/yaml"
        );
    }

    private static JsonNode? ThroughRecord(string kind, JsonElement stored)
    {
        JsonTypeInfo type = kind switch
        {
            "PciDeviceSpec" => Options.TypeInfo<PciDeviceSpec>(),
            "PciAlias" => Options.TypeInfo<PciAlias>(),
            "PciQuota" => Options.TypeInfo<PciQuota>(),
            "PciNode" => Options.TypeInfo<PciNode>(),
            _ => Options.TypeInfo<PassthroughClaim>(),
        };
        return JsonSerializer.SerializeToNode(stored.Deserialize(type), type);
    }

    private static readonly JsonSerializerOptions Options = EntityJson.OptionsWith(PciOperatorJsonContext.Default);
}

/// <summary>The sandbox's API server.</summary>
public sealed class SandboxManifestContract(SandboxOwnKindsServer server) : ManifestContract(server), IClassFixture<SandboxOwnKindsServer>;

/// <summary>A real API server.</summary>
public sealed class RealManifestContract(RealOwnKindsServer server) : ManifestContract(server), IClassFixture<RealOwnKindsServer>;

/// <summary>k3s.</summary>
public sealed class K3sManifestContract(K3sOwnKindsServer server) : ManifestContract(server), IClassFixture<K3sOwnKindsServer>;
