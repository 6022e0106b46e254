using System.Diagnostics;
using PciOperator.Agent;
using PciOperator.Controller;

namespace PciOperator.Tests;

/// <summary>The programs' options, asked of the programs.</summary>
public sealed class ProgramOptionTests
{
    [Theory]
    [InlineData("--health-address=", false)]
    [InlineData("--health-address=127.0.0.1:0", true)]
    public async Task An_empty_health_address_serves_health_nowhere(string option, bool serves)
    {
        foreach (Type program in new[] { typeof(PciController), typeof(NodeAgent) })
        {
            string said = await SaysAsync(program, serves ? Serving : "127.0.0.1:1", option);
            Assert.Equal(serves, said.Contains(Serving, StringComparison.Ordinal));
            Assert.DoesNotContain("Required argument", said, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("127.0.0.1:0")]
    [InlineData("::1:0")]
    [InlineData("[::1]:0")]
    public async Task An_agent_shows_its_metrics_at_another_address_too(string address) =>
        Assert.Contains(
            Serving,
            await SaysAsync(typeof(NodeAgent), Serving, "--health-address=", $"--metrics-address={address}"),
            StringComparison.Ordinal
        );

    private const string Serving = "Health and metrics on port";

    /// <summary>What a program says that reaches no server.</summary>
    private static async Task<string> SaysAsync(Type program, string until, params string[] options)
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("pci-options");
        try
        {
            string kubeconfig = Path.Combine(folder.FullName, "config");
            await File.WriteAllTextAsync(
                kubeconfig,
                """
                {"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],
                 "clusters":[{"name":"c","cluster":{"server":"http://127.0.0.1:1"}}],"users":[{"name":"u","user":{"token":"t"}}]}
                """
            );
            List<string> arguments = [.. options, $"--kubeconfig={kubeconfig}", "--log-format=text"];
            if (program == typeof(NodeAgent))
                arguments.AddRange([$"--host-root={folder.FullName}", $"--state-dir={folder.FullName}/state", "--denied-drivers="]);
            return await FirstLinesAsync(program.Assembly.Location, arguments, until);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    /// <summary>What a program says until it has said something, or ends.</summary>
    private static async Task<string> FirstLinesAsync(string program, IReadOnlyList<string> arguments, string until)
    {
        using Process process = Process.Start(
            new ProcessStartInfo("dotnet", [program, .. arguments]) { RedirectStandardError = true, RedirectStandardOutput = true }
        )!;
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        var said = new System.Text.StringBuilder();
        try
        {
            while (await process.StandardError.ReadLineAsync(limit.Token) is { } line)
            {
                said.AppendLine(line);
                if (line.Contains(until, StringComparison.Ordinal))
                    break;
            }
        }
        finally
        {
            process.Kill();
        }

        return said.ToString();
    }
}
