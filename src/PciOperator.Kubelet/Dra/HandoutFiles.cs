using System.Text.Json;
using PciOperator.Host;

namespace PciOperator.Kubelet;

/// <summary>
/// What a container runtime and a container read of a prepared claim: a CDI file with its device nodes, and for each request the metadata
/// of KEP-5304 with the CDI file that mounts it. All of it follows from the checkpoint.
/// </summary>
internal sealed class HandoutFiles(KubeletOptions options, IHostFileSystem files)
{
    private const int LargestFile = 1 << 20;

    // The lowest versions that have what is used: device names that begin with a letter, and those that need not (CDI's SPEC.md).
    private const string DevicesVersion = "0.3.0";
    private const string MountsVersion = "0.5.0";
    private const string MetadataFolder = "/var/run/kubernetes.io/dra-device-attributes";

    // The versions of the metadata, newest first: a reader takes the first that it knows.
    private static readonly string[] MetadataVersions = ["metadata.resource.k8s.io/v1alpha1"];

    private readonly string _cdi = options.CdiDirectory.TrimEnd('/');
    private readonly string _metadata = $"{options.PluginDirectory}/dra-device-metadata";

    /// <summary>The ids by which the kubelet tells the runtime what a container gets of a device.</summary>
    public IReadOnlyList<string> IdsOf(PreparedClaim claim, PreparedDevice device) =>
        [$"{options.Driver}/claim={DeviceName(claim, device)}", $"{options.Driver}/metadata={claim.Uid}_{device.Request}"];

    /// <summary>Writes what is not there, or is not as it should be.</summary>
    /// <exception cref="HostIoException">It can't be written.</exception>
    public void Write(PreparedClaim claim)
    {
        // The runtime goes by the first CDI file; what it names is there by then.
        foreach ((string path, byte[] content) in Of(claim))
        {
            if (files.ReadBytes(path, LargestFile) is not { } before || !before.AsSpan().SequenceEqual(content))
                files.WriteForOthers(path, content);
        }
    }

    /// <summary>Removes what was written for a claim.</summary>
    /// <param name="claim">The claim.</param>
    /// <param name="keepMetadata">Another claim of the same name has its metadata at the same place now.</param>
    /// <exception cref="HostIoException">It can't be removed.</exception>
    public void Delete(PreparedClaim claim, bool keepMetadata)
    {
        foreach ((string path, _) in Of(claim).Reverse())
        {
            if (!keepMetadata || !path.StartsWith(_metadata, StringComparison.Ordinal))
                files.Delete(path);
        }

        if (keepMetadata)
            return;
        foreach (string request in claim.Devices.Select(d => d.Request).Distinct())
            files.DeleteEmptyFolder($"{FolderOf(claim)}/{request}");
        files.DeleteEmptyFolder(FolderOf(claim));
    }

    /// <summary>Removes what is in our namespace and belongs to no claim, and what writes that were cut off left.</summary>
    /// <param name="claims">All that are prepared.</param>
    /// <returns>The files that were removed.</returns>
    /// <exception cref="HostIoException">It can't be removed.</exception>
    public IReadOnlyList<string> DeleteStrays(IEnumerable<PreparedClaim> claims)
    {
        var kept = claims.SelectMany(Of).Select(f => f.Path).ToHashSet(StringComparer.Ordinal);
        var strays = files.List(_cdi).Where(IsOurs).Select(name => $"{_cdi}/{name}").Where(path => !kept.Contains(path)).ToList();
        foreach (string path in strays)
            files.Delete(path);
        foreach (string claim in files.ListFolders(_metadata))
        {
            foreach (string request in files.ListFolders($"{_metadata}/{claim}"))
            {
                string folder = $"{_metadata}/{claim}/{request}";
                foreach (string path in files.List(folder).Select(name => $"{folder}/{name}").Where(path => !kept.Contains(path)))
                {
                    files.Delete(path);
                    strays.Add(path);
                }

                files.DeleteEmptyFolder(folder);
            }

            files.DeleteEmptyFolder($"{_metadata}/{claim}");
        }

        return strays;
    }

    /// <summary>Other drivers' and the runtime's own files are in the same folder.</summary>
    private bool IsOurs(string name) =>
        (
            name.StartsWith($"{options.Driver}_claim_", StringComparison.Ordinal)
            || name.StartsWith($"{options.Driver}_metadata_", StringComparison.Ordinal)
        ) && (name.EndsWith(".json", StringComparison.Ordinal) || name.EndsWith(".tmp", StringComparison.Ordinal));

    /// <summary>In the order in which they are written.</summary>
    private IEnumerable<(string Path, byte[] Content)> Of(PreparedClaim claim)
    {
        foreach (IGrouping<string, PreparedDevice> request in claim.Devices.GroupBy(d => d.Request, StringComparer.Ordinal))
            yield return ($"{FolderOf(claim)}/{request.Key}/metadata.json", Metadata(claim, request.Key, [.. request]));
        foreach (string request in claim.Devices.Select(d => d.Request).Distinct(StringComparer.Ordinal))
            yield return ($"{_cdi}/{options.Driver}_metadata_{claim.Uid}_{request}.json", MountSpec(claim, request));
        yield return ($"{_cdi}/{options.Driver}_claim_{claim.Uid}.json", DeviceSpec(claim));
    }

    private string FolderOf(PreparedClaim claim) => $"{_metadata}/{claim.Namespace}_{claim.Name}";

    /// <summary>Begins with a letter, whatever a request is called and a UID begins with: older CDI wants that.</summary>
    private static string DeviceName(PreparedClaim claim, PreparedDevice device) => $"claim-{claim.Uid}-{device.Device}";

    private byte[] DeviceSpec(PreparedClaim claim) =>
        Spec(
            DevicesVersion,
            "claim",
            json =>
            {
                foreach (PreparedDevice device in claim.Devices)
                {
                    json.WriteStartObject();
                    json.WriteString("name", DeviceName(claim, device));
                    json.WriteStartObject("containerEdits");
                    json.WriteStartArray("deviceNodes");
                    foreach (string node in device.Nodes)
                    {
                        json.WriteStartObject();
                        json.WriteString("path", node);
                        json.WriteString("permissions", "rwm");
                        json.WriteEndObject();
                    }

                    json.WriteEndArray();
                    json.WriteEndObject();
                    json.WriteEndObject();
                }
            }
        );

    private byte[] MountSpec(PreparedClaim claim, string request) =>
        Spec(
            MountsVersion,
            "metadata",
            json =>
            {
                // What a pod calls a template's claim is in its path, and the claim's own name otherwise.
                string place = claim.PodClaimName is { Length: > 0 } name
                    ? $"resourceclaimtemplates/{name}"
                    : $"resourceclaims/{claim.Name}";
                json.WriteStartObject();
                json.WriteString("name", $"{claim.Uid}_{request}");
                json.WriteStartObject("containerEdits");
                json.WriteStartArray("mounts");
                json.WriteStartObject();
                json.WriteString("hostPath", $"{FolderOf(claim)}/{request}/metadata.json");
                json.WriteString("containerPath", $"{MetadataFolder}/{place}/{request}/{options.Driver}-metadata.json");
                json.WriteStartArray("options");
                json.WriteStringValue("ro");
                json.WriteStringValue("bind");
                json.WriteEndArray();
                json.WriteEndObject();
                json.WriteEndArray();
                json.WriteEndObject();
                json.WriteEndObject();
            }
        );

    private byte[] Spec(string version, string kind, Action<Utf8JsonWriter> devices)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            json.WriteString("cdiVersion", version);
            json.WriteString("kind", $"{options.Driver}/{kind}");
            json.WriteStartArray("devices");
            devices(json);
            json.WriteEndArray();
            json.WriteEndObject();
        }

        return buffer.ToArray();
    }

    /// <summary>A stream of objects, one for each version, each on a line of its own.</summary>
    private byte[] Metadata(PreparedClaim claim, string request, IReadOnlyList<PreparedDevice> devices)
    {
        using var buffer = new MemoryStream();
        foreach (string version in MetadataVersions)
        {
            using (var json = new Utf8JsonWriter(buffer))
            {
                json.WriteStartObject();
                json.WriteString("kind", "DeviceMetadata");
                json.WriteString("apiVersion", version);
                json.WriteStartObject("metadata");
                json.WriteString("name", claim.Name);
                json.WriteString("namespace", claim.Namespace);
                json.WriteString("uid", claim.Uid);
                json.WriteNumber("generation", 1);
                json.WriteEndObject();
                if (claim.PodClaimName is { Length: > 0 } name)
                    json.WriteString("podClaimName", name);
                json.WriteStartArray("requests");
                json.WriteStartObject();
                json.WriteString("name", request);
                json.WriteStartArray("devices");
                foreach (PreparedDevice device in devices)
                    WriteDevice(json, device);
                json.WriteEndArray();
                json.WriteEndObject();
                json.WriteEndArray();
                json.WriteEndObject();
            }

            buffer.WriteByte((byte)'\n');
        }

        return buffer.ToArray();
    }

    private void WriteDevice(Utf8JsonWriter json, PreparedDevice device)
    {
        json.WriteStartObject();
        json.WriteString("driver", options.Driver);
        json.WriteString("pool", device.Pool);
        json.WriteString("name", device.Device);

        // In the order of their names, as the library for drivers in Go has them.
        json.WriteStartObject("attributes");
        if (device.NumaNode is { } numa)
        {
            json.WriteStartObject("resource.kubernetes.io/numaNode");
            json.WriteNumber("int", numa);
            json.WriteEndObject();
        }

        WriteText(json, "resource.kubernetes.io/pciBusID", device.Address);
        if (device.PcieRoot is { } root)
            WriteText(json, "resource.kubernetes.io/pcieRoot", root);
        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static void WriteText(Utf8JsonWriter json, string attribute, string value)
    {
        json.WriteStartObject(attribute);
        json.WriteString("string", value);
        json.WriteEndObject();
    }
}
