using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Testing;

namespace PciOperator.Tests.Docs;

/// <summary>
/// What Argo CD says of an object with the scripts of config/gitops/argocd/health.yaml: they are run, by Lua, without the libraries that Argo CD
/// leaves out.
/// </summary>
internal static class ArgoHealth
{
    public const string Settings = "config/gitops/argocd/health.yaml";

    private const string Prefix = "resource.customizations.health.pcioperator.io_";
    private const string HowTo = "No Lua: run tests/lua/install-packages, or put lua5.1 (the version that Argo CD has) on the PATH.";

    private static readonly string[] Statuses = ["Healthy", "Progressing", "Degraded", "Suspended"];

    /// <summary>The scripts by kind.</summary>
    public static IReadOnlyDictionary<string, string> Scripts { get; } =
        Manifests.Read(File.ReadAllText(Path.Combine(Kubectl.Repository, Settings))).Single()["data"]!
            .AsObject()
            .ToDictionary(
                e =>
                    e.Key.StartsWith(Prefix, StringComparison.Ordinal)
                        ? e.Key[Prefix.Length..]
                        : throw new InvalidOperationException(e.Key),
                e => e.Value!.ToString()
            );

    /// <summary>The interpreter; where there is none, the test is skipped (<see cref="Requirement"/>).</summary>
    public static string Interpreter()
    {
        string? found = new[] { "lua5.1", "lua5.4", "lua" }
            .SelectMany(name => (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Select(folder => Path.Combine(folder, name)))
            .FirstOrDefault(File.Exists);
        if (found is null)
            Requirement.IsMissing(HowTo);
        return found;
    }

    /// <summary>Its status and message.</summary>
    public static async Task<(string Status, string Message)> OfAsync(JsonNode o)
    {
        // Argo CD asks no script about these.
        if (o["metadata"]?["deletionTimestamp"] is not null)
            return ("Progressing", "Pending deletion");
        string program = $"""
            obj = {Literal(o)}
            local script = assert((loadstring or load)({Literal(JsonValue.Create(Scripts[o["kind"]!.ToString()]))}))
            getmetatable("").__index = nil
            string, math, io, debug, coroutine = nil, nil, nil, nil, nil
            local health = script()
            print(health.status)
            print(health.message)
            """;
        using Process lua = Process.Start(
            new ProcessStartInfo(Interpreter(), ["-"])
            {
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            }
        )!;
        Task<string> output = lua.StandardOutput.ReadToEndAsync();
        Task<string> errors = lua.StandardError.ReadToEndAsync();
        await lua.StandardInput.WriteAsync(program);
        lua.StandardInput.Close();
        await lua.WaitForExitAsync();
        Assert.True(lua.ExitCode == 0, await errors);
        string[] lines = (await output).Split('\n');
        Assert.Contains(lines[0], Statuses);
        return (lines[0], lines[1]);
    }

    /// <summary>A value in Lua.</summary>
    private static string Literal(JsonNode? value) =>
        value switch
        {
            null => "nil",
            JsonObject o => $"{{{string.Join(',', o.Select(p => $"[{Literal(JsonValue.Create(p.Key))}]={Literal(p.Value)}"))}}}",
            JsonArray a => $"{{{string.Join(',', a.Select(Literal))}}}",
            _ when value.GetValueKind() == JsonValueKind.String => Text(value.GetValue<string>()),
            _ => value.ToJsonString(),
        };

    private static string Text(string value)
    {
        var text = new StringBuilder("\"");
        foreach (byte b in Encoding.UTF8.GetBytes(value))
        {
            bool plain = b is >= 0x20 and < 0x7f and not ((byte)'"' or (byte)'\\');
            text.Append(plain ? ((char)b).ToString() : b.ToString("'\\'000", CultureInfo.InvariantCulture));
        }

        return text.Append('"').ToString();
    }
}
