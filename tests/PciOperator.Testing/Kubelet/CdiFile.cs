using System.Text.Json;
using System.Text.RegularExpressions;

namespace PciOperator.Testing;

/// <summary>What a CDI device does to a container.</summary>
public sealed record CdiEdits(IReadOnlyList<string> Nodes, IReadOnlyList<ContainerMount> Mounts);

/// <summary>
/// A CDI file, read as strictly as a runtime may: the part of the CDI specification (SPEC.md 1.1.0) that concerns device nodes and mounts, with the names
/// that it allows and the version that what is used needs.
/// </summary>
public static partial class CdiFile
{
    private static readonly string[] Versions = ["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

    /// <summary>The devices, by their full names.</summary>
    public static IEnumerable<(string Id, CdiEdits Edits)> Read(byte[] content)
    {
        using var document = JsonDocument.Parse(content);
        JsonElement file = document.RootElement;
        Only(file, ["cdiVersion", "kind", "devices"], ["cdiVersion", "kind", "devices"]);
        string version = file.GetProperty("cdiVersion").GetString()!;
        Assert.Contains(version, Versions);
        string kind = file.GetProperty("kind").GetString()!;
        Assert.Matches(Kind(), kind);
        string lowest = "0.3.0";
        var devices = new List<(string, CdiEdits)>();
        foreach (JsonElement device in file.GetProperty("devices").EnumerateArray())
        {
            Only(device, ["name", "containerEdits"], ["name", "containerEdits"]);
            string name = device.GetProperty("name").GetString()!;
            Assert.Matches(DeviceName(), name);
            if (!char.IsAsciiLetter(name[0]))
                lowest = "0.5.0";
            JsonElement edits = device.GetProperty("containerEdits");
            Only(edits, ["deviceNodes", "mounts"], []);
            var nodes = new List<string>();
            foreach (JsonElement node in List(edits, "deviceNodes"))
            {
                Only(node, ["path", "hostPath", "permissions"], ["path"]);
                Assert.StartsWith("/dev/", node.GetProperty("path").GetString(), StringComparison.Ordinal);
                if (node.TryGetProperty("permissions", out JsonElement permissions))
                    Assert.Matches("^[rwm]+$", permissions.GetString());
                if (node.TryGetProperty("hostPath", out _))
                    lowest = "0.5.0";
                nodes.Add(node.GetProperty("path").GetString()!);
            }

            var mounts = new List<ContainerMount>();
            foreach (JsonElement mount in List(edits, "mounts"))
            {
                Only(mount, ["hostPath", "containerPath", "options"], ["hostPath", "containerPath"]);
                mounts.Add(
                    new ContainerMount(
                        mount.GetProperty("hostPath").GetString()!,
                        mount.GetProperty("containerPath").GetString()!,
                        [.. List(mount, "options").Select(o => o.GetString()!)]
                    )
                );
            }

            Assert.True(nodes.Count + mounts.Count > 0, "empty container edits");
            devices.Add(($"{kind}={name}", new CdiEdits(nodes, mounts)));
        }

        Assert.True(
            Array.IndexOf(Versions, version) >= Array.IndexOf(Versions, lowest),
            $"cdiVersion is {version}, and what is used needs {lowest}"
        );
        Assert.NotEmpty(devices);
        return devices;
    }

    private static IEnumerable<JsonElement> List(JsonElement of, string name) =>
        of.TryGetProperty(name, out JsonElement list) ? list.EnumerateArray().ToList() : [];

    private static void Only(JsonElement element, string[] known, string[] required)
    {
        string[] names = [.. element.EnumerateObject().Select(p => p.Name)];
        Assert.All(names, n => Assert.Contains(n, known));
        Assert.All(required, n => Assert.Contains(n, names));
        Assert.Equal(names.Distinct().Count(), names.Length);
    }

    [GeneratedRegex("^[A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]/[A-Za-z][A-Za-z0-9_-]*[A-Za-z0-9]$")]
    private static partial Regex Kind();

    [GeneratedRegex("^[A-Za-z0-9][A-Za-z0-9_.:-]*[A-Za-z0-9]$")]
    private static partial Regex DeviceName();
}
