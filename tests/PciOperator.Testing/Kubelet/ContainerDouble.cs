using System.Text.Json;
using System.Text.RegularExpressions;
using PciOperator.Host;

namespace PciOperator.Testing;

/// <summary>A file of the host that a container sees at a path of its own.</summary>
public sealed record ContainerMount(string HostPath, string ContainerPath, IReadOnlyList<string> Options);

/// <summary>
/// A container as a runtime makes it of CDI ids: it reads the CDI files of a host strictly, and merges the edits of the devices that are named.
/// Inside it reads a device's address as KubeVirt's virt-launcher does.
/// </summary>
public sealed partial class ContainerDouble
{
    private const string Metadata = "/var/run/kubernetes.io/dra-device-attributes";
    private readonly IHostFileSystem _files;

    private ContainerDouble(IHostFileSystem files) => _files = files;

    /// <summary>The device nodes that it may open, each once.</summary>
    public IReadOnlyList<string> Nodes { get; private set; } = [];

    /// <summary>What is mounted into it.</summary>
    public IReadOnlyList<ContainerMount> Mounts { get; private set; } = [];

    /// <summary>Makes a container.</summary>
    /// <param name="files">The host.</param>
    /// <param name="ids">The CDI ids.</param>
    /// <param name="cdi">The folder of CDI files.</param>
    /// <exception cref="InvalidOperationException">An id is unresolvable: the container can't be made.</exception>
    public static ContainerDouble Make(IHostFileSystem files, IEnumerable<string> ids, string cdi = "/var/run/cdi")
    {
        var devices = new Dictionary<string, CdiEdits>();
        foreach (string name in files.List(cdi).Where(n => n.EndsWith(".json", StringComparison.Ordinal)))
        {
            foreach ((string id, CdiEdits edits) in CdiFile.Read(files.ReadBytes($"{cdi}/{name}", 1 << 20)!))
            {
                // Two files that define one device make it unusable (conflicting devices).
                if (!devices.TryAdd(id, edits))
                    throw new InvalidOperationException($"conflicting device {id}");
            }
        }

        var nodes = new List<string>();
        var mounts = new List<ContainerMount>();
        foreach (string id in ids)
        {
            if (!devices.TryGetValue(id, out CdiEdits? edits))
                throw new InvalidOperationException($"unresolvable CDI device {id}");
            nodes.AddRange(edits.Nodes);
            mounts.AddRange(edits.Mounts);
        }

        foreach (string node in nodes)
        {
            if (files.DeviceAt(node) is null)
                throw new InvalidOperationException($"failed to stat CDI host device {node}");
        }

        return new ContainerDouble(files) { Nodes = [.. nodes.Distinct()], Mounts = [.. mounts.DistinctBy(m => m.ContainerPath)] };
    }

    /// <summary>The address that virt-launcher gives to libvirt for a device of a ResourceClaim that the pod names.</summary>
    public string AddressOf(string claim, string request) => Address($"{Metadata}/resourceclaims/{claim}/{request}/");

    /// <summary>The same, of a claim that a template made.</summary>
    /// <param name="podClaim">What the pod calls the claim.</param>
    /// <param name="request">The request.</param>
    public string AddressOfTemplate(string podClaim, string request) => Address($"{Metadata}/resourceclaimtemplates/{podClaim}/{request}/");

    private string Address(string folder)
    {
        ContainerMount file = Assert.Single(
            Mounts,
            m =>
                m.ContainerPath.StartsWith(folder, StringComparison.Ordinal)
                && m.ContainerPath.EndsWith("-metadata.json", StringComparison.Ordinal)
        );
        byte[] content = _files.ReadBytes(file.HostPath, 1 << 20) ?? throw new InvalidOperationException($"there is no {file.HostPath}");
        foreach (JsonElement document in Documents(content))
        {
            if (document.GetProperty("apiVersion").GetString() != "metadata.resource.k8s.io/v1alpha1")
                continue;
            JsonElement request = document
                .GetProperty("requests")
                .EnumerateArray()
                .Single(r => r.GetProperty("name").GetString() == folder.Split('/')[^2]);
            JsonElement device = request.GetProperty("devices").EnumerateArray().Single();
            string address = device
                .GetProperty("attributes")
                .GetProperty("resource.kubernetes.io/pciBusID")
                .GetProperty("string")
                .GetString()!;
            Assert.Matches(PciAddressPattern(), address);
            return address;
        }

        throw new InvalidOperationException("no document of a version that is known");
    }

    /// <summary>A stream of JSON objects.</summary>
    private static List<JsonElement> Documents(byte[] content)
    {
        var documents = new List<JsonElement>();
        var reader = new Utf8JsonReader(content, new JsonReaderOptions { AllowMultipleValues = true });
        while (reader.Read())
            documents.Add(JsonElement.ParseValue(ref reader));
        return documents;
    }

    [GeneratedRegex("^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\\.[0-7]$")]
    private static partial Regex PciAddressPattern();
}
