using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace PciOperator.Sbom;

/// <summary>What a program in its image is made of, as CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/).</summary>
internal sealed partial class BillOfMaterials
{
    /// <summary>Packages that compile and are not in what ships.</summary>
    private static readonly string[] Compilers = ["Microsoft.NET.ILLink.Tasks", "Microsoft.DotNet.ILCompiler", "Grpc.Tools"];

    /// <summary>Where a distribution says which it is (os-release(5)).</summary>
    private static readonly string[] ReleaseFiles = ["etc/os-release", "usr/lib/os-release"];

    private readonly JsonObject _document;

    /// <summary>Reads it together.</summary>
    /// <param name="project">The program's folder, with its project file and <c>packages.lock.json</c>.</param>
    /// <param name="runtime">Its runtime identifier: "linux-x64", "linux-arm64".</param>
    /// <param name="root">The root folder of the image's base; null: the image has none.</param>
    /// <exception cref="InvalidDataException">Something is missing; the message names the file and what was expected.</exception>
    public BillOfMaterials(string project, string runtime, string? root)
    {
        string name = AssemblyName(project);
        string version = VersionAbove(project);
        List<Package> packages = [.. NuGet(project, runtime), .. root is null ? [] : Debian(root)];
        string self = $"pkg:generic/{name}@{version}";
        _document = new JsonObject
        {
            ["$schema"] = "http://cyclonedx.org/schema/bom-1.6.schema.json",
            ["bomFormat"] = "CycloneDX",
            ["specVersion"] = "1.6",
            ["version"] = 1,
            ["metadata"] = new JsonObject
            {
                ["component"] = new JsonObject
                {
                    ["type"] = "application",
                    ["bom-ref"] = self,
                    ["name"] = name,
                    ["version"] = version,
                    ["licenses"] = Licenses("Apache-2.0"),
                    ["purl"] = self,
                },
            },
            ["components"] = new JsonArray([.. packages.Select(p => p.Component())]),
            ["dependencies"] = new JsonArray([
                new JsonObject
                {
                    ["ref"] = self,
                    ["dependsOn"] = new JsonArray([.. packages.Where(p => p.Type is null or "Direct").Select(p => (JsonNode)p.Purl)]),
                },
                .. packages
                    .Where(p => p.DependsOn.Count > 0)
                    .Select(p => new JsonObject
                    {
                        ["ref"] = p.Purl,
                        ["dependsOn"] = new JsonArray([.. packages.Where(o => p.DependsOn.Contains(o.Name)).Select(o => (JsonNode)o.Purl)]),
                    }),
            ]),
        };
    }

    /// <summary>Writes it as UTF-8.</summary>
    public void Write(Stream output)
    {
        using var writer = new Utf8JsonWriter(output, new JsonWriterOptions { Indented = true });
        _document.WriteTo(writer);
    }

    private static IEnumerable<Package> NuGet(string project, string runtime)
    {
        string file = Path.Combine(project, "packages.lock.json");
        JsonNode frameworks = JsonNode.Parse(Read(file))!["dependencies"]!;
        JsonObject common = frameworks["net10.0"]?.AsObject() ?? throw new InvalidDataException($"{file} has no net10.0");
        JsonObject own = frameworks[$"net10.0/{runtime}"]?.AsObject() ?? throw new InvalidDataException($"{file} has no net10.0/{runtime}");
        foreach ((string name, JsonNode? entry) in common.OrderBy(e => e.Key, StringComparer.OrdinalIgnoreCase))
        {
            if ((string?)entry!["type"] is not { } type || type == "Project" || Compilers.Contains(name))
                continue;
            string version = (string)entry["resolved"]!;
            yield return new Package(name, version, $"pkg:nuget/{name}@{version}", LicenseOf(name, version))
            {
                Type = type,
                DependsOn = [.. entry["dependencies"]?.AsObject().Select(d => d.Key) ?? []],
                Properties = new() { ["nuget:contentHash"] = (string)entry["contentHash"]! },
            };
        }

        // Linked into the program; the lock file knows it by its compiler's, which has the same version.
        string runtimeVersion = (string)own["Microsoft.DotNet.ILCompiler"]!["resolved"]!;
        string pack = $"Microsoft.NETCore.App.Runtime.NativeAOT.{runtime}";
        yield return new Package(pack, runtimeVersion, $"pkg:nuget/{pack}@{runtimeVersion}", "MIT");
    }

    /// <summary>What dpkg has installed, or, in images without dpkg, what their makers have noted a file each.</summary>
    private static IEnumerable<Package> Debian(string root)
    {
        string status = Path.Combine(root, "var/lib/dpkg/status");
        string folder = Path.Combine(root, "var/lib/dpkg/status.d");
        string[] files =
        [
            .. File.Exists(status) ? [status] : Array.Empty<string>(),
            .. Directory.Exists(folder) ? Directory.GetFiles(folder).Where(f => !f.EndsWith(".md5sums", StringComparison.Ordinal)) : [],
        ];
        string system = OsRelease(root);
        List<Package> packages =
        [
            .. files
                .SelectMany(f => File.ReadAllText(f).Split("\n\n"))
                .Select(p => FieldOfControl().Matches(p).ToDictionary(m => m.Groups[1].Value, m => m.Groups[2].Value))
                .Where(p =>
                    p.ContainsKey("Package")
                    && !p.GetValueOrDefault("Status", "installed").EndsWith("not-installed", StringComparison.Ordinal)
                )
                .OrderBy(p => p["Package"], StringComparer.Ordinal)
                .Select(p => new Package(
                    p["Package"],
                    p["Version"],
                    $"pkg:deb/{system}/{p["Package"]}@{Uri.EscapeDataString(p["Version"])}?arch={p["Architecture"]}",
                    License: null
                )),
        ];
        return packages.Count > 0
            ? packages
            : throw new InvalidDataException(
                $"{root} has no packages in var/lib/dpkg/status or var/lib/dpkg/status.d: what the base is made of is not known"
            );
    }

    private static string OsRelease(string root)
    {
        string? id = ReleaseFiles
            .Select(f => Path.Combine(root, f))
            .Where(File.Exists)
            .SelectMany(File.ReadAllLines)
            .Where(l => l.StartsWith("ID=", StringComparison.Ordinal))
            .Select(l => l[3..].Trim('"'))
            .FirstOrDefault();
        return id ?? "debian";
    }

    /// <summary>The licence that a restored package says of itself, as SPDX; null: it isn't here, or says it by a file or an address.</summary>
    private static string? LicenseOf(string name, string version)
    {
        string packages =
            Environment.GetEnvironmentVariable("NUGET_PACKAGES")
            ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".nuget", "packages");
        string lower = name.ToLowerInvariant();
        string file = Path.Combine(packages, lower, version, lower + ".nuspec");
        return !File.Exists(file)
            ? null
            : XDocument
                .Load(file)
                .Descendants()
                .FirstOrDefault(e => e.Name.LocalName == "license" && (string?)e.Attribute("type") == "expression")
                ?.Value;
    }

    private static string AssemblyName(string project)
    {
        string file = Directory.GetFiles(project, "*.csproj") is [var only]
            ? only
            : throw new InvalidDataException($"{project} has no project");
        return XDocument.Load(file).Descendants("AssemblyName").FirstOrDefault()?.Value ?? Path.GetFileNameWithoutExtension(file);
    }

    private static string VersionAbove(string project)
    {
        for (DirectoryInfo? folder = new(Path.GetFullPath(project)); folder is not null; folder = folder.Parent)
        {
            string file = Path.Combine(folder.FullName, "Directory.Build.props");
            if (File.Exists(file) && XDocument.Load(file).Descendants("Version").FirstOrDefault() is { } version)
                return version.Value;
        }

        throw new InvalidDataException($"no Directory.Build.props above {project} says a Version");
    }

    private static string Read(string file) =>
        File.Exists(file) ? File.ReadAllText(file) : throw new InvalidDataException($"{file} is not there");

    private static JsonArray Licenses(string expression) => [new JsonObject { ["expression"] = expression }];

    [GeneratedRegex(@"^(Package|Version|Architecture|Status): (.*)$", RegexOptions.Multiline)]
    private static partial Regex FieldOfControl();

    /// <param name="Name">As its registry has it.</param>
    /// <param name="Version">As its registry has it.</param>
    /// <param name="Purl">https://github.com/package-url/purl-spec</param>
    /// <param name="License">An SPDX expression; null: not known.</param>
    private sealed record Package(string Name, string Version, string Purl, string? License)
    {
        /// <summary>The lock file's word ("Direct", "Transitive", …); null: it is in no lock file.</summary>
        public string? Type { get; init; }

        public IReadOnlyList<string> DependsOn { get; init; } = [];

        public Dictionary<string, string> Properties { get; init; } = [];

        public JsonObject Component()
        {
            var component = new JsonObject
            {
                ["type"] = "library",
                ["bom-ref"] = Purl,
                ["name"] = Name,
                ["version"] = Version,
            };
            if (License is not null)
                component["licenses"] = Licenses(License);
            component["purl"] = Purl;
            if (Properties.Count > 0)
            {
                component["properties"] = new JsonArray([
                    .. Properties.Select(p => new JsonObject { ["name"] = p.Key, ["value"] = p.Value }),
                ]);
            }

            return component;
        }
    }
}
