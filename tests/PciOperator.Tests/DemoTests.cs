using System.Diagnostics;
using PciOperator.Sandbox.Cluster;

namespace PciOperator.Tests;

/// <summary>What <c>make demo</c> prints.</summary>
public sealed class DemoTests
{
    [Fact]
    public async Task Into_a_file_it_prints_what_each_VM_has_without_colour_codes_whatever_the_environment_says()
    {
        string said = await RunAsync();
        Assert.DoesNotContain('\u001b', said);
        Assert.EndsWith("demo: 6 claims ready, 6 released, 0 failed", said.TrimEnd(), StringComparison.Ordinal);
        Assert.Matches(@"vm-database +│ node-\d +│ disk +│ [0-9a-f]{4}:23:00\.0 +│ /dev/vfio/\d+", said);
        Assert.Matches(@"vm-roaming +│ node-\d +│ disk +│ [0-9a-f]{4}:23:00\.0 +│ /dev/vfio/\d+", said);
        Assert.Contains("gpu-companion-2", said, StringComparison.Ordinal);
    }

    private static async Task<string> RunAsync()
    {
        var start = new ProcessStartInfo("dotnet", [typeof(SandboxCluster).Assembly.Location, "demo"]) { RedirectStandardOutput = true };
        foreach (string variable in new[] { "GITHUB_ACTIONS", "CI", "TF_BUILD", "TEAMCITY_VERSION", "COLORTERM", "FORCE_COLOR" })
            start.Environment[variable] = "true";
        start.Environment["TERM"] = "xterm-256color";
        using Process process = Process.Start(start)!;
        string said = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return said;
    }
}
