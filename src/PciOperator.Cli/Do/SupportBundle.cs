using System.Formats.Tar;
using System.IO.Compression;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using k8s;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Cli.Commands;
using PciOperator.Cli.Vms;
using PciOperator.Kubernetes;

namespace PciOperator.Cli.Do;

/// <summary>What somebody needs who helps: objects, events and what PciNodes say of their hosts. No Secrets are read, and nothing that looks like one is kept.</summary>
internal static class SupportBundle
{
    private const string LeftOut = "(left out)";

    // Words in the names of fields and of program options whose values are nobody's business.
    private static readonly string[] Secret = ["token", "password", "passwd", "secret", "credential", "apikey", "api-key", "private"];

    private static readonly HashSet<string> OwnKinds = ["PciDeviceSpec", "PciAlias", "PciQuota", "PassthroughClaim", "PciNode"];

    private static readonly (string File, string Path)[] Kinds =
    [
        ("pcidevicespecs", $"/apis/{PciOperatorApi.GroupVersion}/pcidevicespecs"),
        ("pcialiases", $"/apis/{PciOperatorApi.GroupVersion}/pcialiases"),
        ("pciquotas", $"/apis/{PciOperatorApi.GroupVersion}/pciquotas"),
        ("pcinodes", $"/apis/{PciOperatorApi.GroupVersion}/pcinodes"),
        ("passthroughclaims", $"/apis/{PciOperatorApi.GroupVersion}/passthroughclaims"),
        ("nodes", "/api/v1/nodes"),
        ("resourceclaims", "/apis/resource.k8s.io/v1/resourceclaims"),
        ("resourceslices", $"/apis/resource.k8s.io/v1/resourceslices?fieldSelector=spec.driver%3D{DraNames.Driver}"),
        ("pods-of-agents", $"/api/v1/namespaces/{Installation.AgentsNamespace}/pods"),
        ("pods-of-controller", $"/api/v1/namespaces/{Installation.ControllerNamespace}/pods"),
        ("daemonsets", $"/apis/apps/v1/namespaces/{Installation.AgentsNamespace}/daemonsets"),
        ("deployments", $"/apis/apps/v1/namespaces/{Installation.ControllerNamespace}/deployments"),
        ("events", "/apis/events.k8s.io/v1/events"),
        ("version", "/version"),
    ];

    /// <summary>Writes the archive, whole or not at all; how many kinds could not be read.</summary>
    public static async Task<int> WriteAsync(Session session, string path)
    {
        var files = new List<(string Name, string Text)>();
        var missing = new StringBuilder();
        int failed = 0;
        foreach ((string file, string url) in Kinds)
        {
            try
            {
                using JsonDocument answer = await session.Client.GetRawAsync(url, session.Ct);
                JsonNode root = JsonNode.Parse(answer.RootElement.GetRawText())!;
                if (file == "events")
                    KeepOwn(root);
                Clean(root, insideEnvironment: false);
                files.Add(($"{file}.json", root.ToJsonString(new JsonSerializerOptions { WriteIndented = true })));
            }
            catch (ApiException refused)
            {
                failed++;
                missing.Append($"{file}: {refused.Message}\n");
            }
        }

        if (failed == Kinds.Length)
        {
            throw new CliException(
                ExitCodes.Forbidden,
                "Nothing could be read: you may see none of the kinds that belong into the archive."
            );
        }

        failed += await AddVmsAsync(session, files, missing);
        files.Add(("missing.txt", missing.ToString()));
        Save(session, path, files);
        return failed;
    }

    /// <summary>
    /// KubeVirt's setup, and the VMs of the claims' namespaces, as far as they are typed here: their volumes, with cloud-init's passwords and
    /// keys, are never read.
    /// </summary>
    private static async Task<int> AddVmsAsync(Session session, List<(string Name, string Text)> files, StringBuilder missing)
    {
        JsonNode? claims = files.Find(f => f.Name == "passthroughclaims.json").Text is { } text ? JsonNode.Parse(text) : null;
        HashSet<string> namespaces =
        [
            .. (claims?["items"] as JsonArray ?? []).Select(c => c?["metadata"]?["namespace"]?.GetValue<string>()).OfType<string>(),
        ];
        return await AddAsync<KubeVirtSetup>("kubevirts", _ => true)
            + await AddAsync<VirtualMachine>("virtualmachines", namespaces.Contains)
            + await AddAsync<VirtualMachineInstance>("virtualmachineinstances", namespaces.Contains);

        async Task<int> AddAsync<T>(string file, Func<string, bool> wanted)
            where T : class, IKubernetesObject<V1ObjectMeta>
        {
            try
            {
                var items = new JsonArray();
                EntityList<T> list = await session.Client.ListAsync<T>(ct: session.Ct);
                foreach (T item in list.Items.Where(i => wanted(i.Metadata.NamespaceProperty)))
                    items.Add(JsonSerializer.SerializeToNode(item, session.Client.JsonOptions.TypeInfo<T>()));
                var root = new JsonObject { ["items"] = items };
                Clean(root, insideEnvironment: false);
                files.Add(($"{file}.json", root.ToJsonString(new JsonSerializerOptions { WriteIndented = true })));
                return 0;
            }
            catch (ApiException absent) when (absent.IsNotFound)
            {
                return 0; // no KubeVirt there
            }
            catch (ApiException refused)
            {
                missing.Append($"{file}: {refused.Message}\n");
                return 1;
            }
        }
    }

    /// <summary>Removes what tells secrets, or nothing: managedFields, what kubectl applied, values of the environment, options and fields with telling names.</summary>
    internal static void Clean(JsonNode? node, bool insideEnvironment)
    {
        switch (node)
        {
            case JsonObject map:
                map.Remove("managedFields");
                foreach (string key in map.Select(p => p.Key).ToList())
                {
                    bool isText = map[key] is JsonValue value && value.GetValueKind() == JsonValueKind.String;
                    if (key == "kubectl.kubernetes.io/last-applied-configuration")
                        map.Remove(key);
                    else if (isText && ((insideEnvironment && key == "value") || Tells(key)))
                        map[key] = LeftOut;
                    else if (key is "args" or "command" && map[key] is JsonArray words)
                        CleanWords(words);
                    else
                        Clean(map[key], key == "env");
                }

                break;
            case JsonArray list:
                foreach (JsonNode? item in list)
                    Clean(item, insideEnvironment);
                break;
        }
    }

    // --token=abc, and --token abc.
    private static void CleanWords(JsonArray words)
    {
        bool next = false;
        for (int i = 0; i < words.Count; i++)
        {
            if (words[i] is not JsonValue value || value.GetValueKind() != JsonValueKind.String)
                continue;
            string word = value.GetValue<string>();
            int equals = word.IndexOf('=', StringComparison.Ordinal);
            if (next && !word.StartsWith('-'))
                words[i] = LeftOut;
            else if (equals > 0 && Tells(word[..equals]))
                words[i] = $"{word[..equals]}={LeftOut}";
            next = equals < 0 && word.StartsWith('-') && Tells(word);
        }
    }

    // Names of Secrets, and mounts of tokens, are no secrets; they are needed to see what is missing.
    private static bool Tells(string name) =>
        name is not ("secretName" or "automountServiceAccountToken")
        && Secret.Any(s => name.Contains(s, StringComparison.OrdinalIgnoreCase));

    /// <summary>Of the events those about our objects, and of our namespaces.</summary>
    private static void KeepOwn(JsonNode root)
    {
        if (root["items"] is not JsonArray items)
            return;
        JsonNode?[] kept =
        [
            .. items.Where(e =>
                OwnKinds.Contains(e?["regarding"]?["kind"]?.GetValue<string>() ?? "")
                || e?["metadata"]?["namespace"]?.GetValue<string>() is Installation.AgentsNamespace or Installation.ControllerNamespace
            ),
        ];
        items.Clear();
        foreach (JsonNode? item in kept)
            items.Add(item);
    }

    private static void Save(Session session, string path, List<(string Name, string Text)> files)
    {
        try
        {
            // For its owner alone, and never over something that is there.
            var options = new FileStreamOptions
            {
                Mode = FileMode.CreateNew,
                Access = FileAccess.Write,
                UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
            };
            using var stream = new FileStream(path, options);
            using var packed = new GZipStream(stream, CompressionLevel.Optimal);
            using var archive = new TarWriter(packed);
            foreach ((string name, string text) in files)
            {
                archive.WriteEntry(
                    new PaxTarEntry(TarEntryType.RegularFile, $"pci-collect/{name}")
                    {
                        DataStream = new MemoryStream(Encoding.UTF8.GetBytes(text)),
                        ModificationTime = session.Io.Time.GetUtcNow(),
                    }
                );
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CliException(ExitCodes.Failed, $"{path} can't be written: {e.Message}");
        }
    }
}
