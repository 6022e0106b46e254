using System.Text.Json.Nodes;

namespace PciOperator.Images.Tests;

/// <summary>The container runtimes' default filter of system calls, for an OCI runtime configuration.</summary>
internal static class Seccomp
{
    private const string Profile = "/usr/share/containers/seccomp.json";

    /// <summary>What RuntimeDefault means on this machine.</summary>
    /// <param name="capabilities">The container's: some calls go with them.</param>
    public static JsonObject Default(IReadOnlyCollection<string> capabilities)
    {
        JsonNode profile = JsonNode.Parse(File.ReadAllText(Profile))!;
        var calls = new JsonArray();
        foreach (JsonNode? entry in profile["syscalls"]!.AsArray())
        {
            if (!Has(entry!["includes"], all: true) || Has(entry["excludes"], all: false))
                continue;
            var call = new JsonObject { ["names"] = entry["names"]!.DeepClone(), ["action"] = entry["action"]!.DeepClone() };
            if (entry["args"] is JsonArray { Count: > 0 } arguments)
                call["args"] = arguments.DeepClone();
            if (entry["errnoRet"] is { } errno)
                call["errnoRet"] = errno.DeepClone();
            calls.Add(call);
        }

        return new JsonObject
        {
            ["defaultAction"] = profile["defaultAction"]!.DeepClone(),
            ["defaultErrnoRet"] = profile["defaultErrnoRet"]!.DeepClone(),
            ["architectures"] = Pod.Array(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
            ["syscalls"] = calls,
        };

        // A condition that says nothing includes all, and excludes none.
        bool Has(JsonNode? condition, bool all)
        {
            if (condition is not JsonObject { Count: > 0 })
                return all;
            bool ofArchitecture = condition["arches"] is not JsonArray { Count: > 0 } arches || arches.Any(a => (string?)a == "amd64");
            bool ofCapabilities =
                condition["caps"] is not JsonArray { Count: > 0 } caps || caps.Any(c => capabilities.Contains((string)c!));
            return ofArchitecture && ofCapabilities;
        }
    }
}
