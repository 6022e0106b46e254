using System.Diagnostics;

namespace PciOperator.Testing;

/// <summary>
/// Prometheus' own tool: the one that PCI_TEST_PROMTOOL names, else what tests/vm/install-packages has unpacked, else promtool from the PATH.
/// </summary>
public static class Promtool
{
    private const string HowTo =
        "No promtool: run tests/vm/install-packages, put promtool (of Prometheus 2.42 or later) on the PATH, or set PCI_TEST_PROMTOOL to it.";

    /// <summary>Runs it; its exit code and all that it printed.</summary>
    /// <param name="input">What is on its standard input; null: nothing.</param>
    /// <param name="arguments">Its arguments.</param>
    public static async Task<(int Code, string Text)> RunAsync(string? input, params string[] arguments)
    {
        using Process process = Process.Start(
            new ProcessStartInfo(Find("promtool"), arguments)
            {
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            }
        )!;
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> errors = process.StandardError.ReadToEndAsync();
        if (input is not null)
            await process.StandardInput.WriteAsync(input);
        process.StandardInput.Close();
        await process.WaitForExitAsync();
        return (process.ExitCode, await output + await errors);
    }

    /// <summary>Where a program of Prometheus' is: <c>promtool</c>, or <c>prometheus</c>, which is beside it.</summary>
    public static string Find(string program)
    {
        if (Environment.GetEnvironmentVariable("PCI_TEST_PROMTOOL") is { Length: > 0 } named)
            return Path.Combine(Path.GetDirectoryName(Path.GetFullPath(named))!, program == "promtool" ? Path.GetFileName(named) : program);
        string? found = (Environment.GetEnvironmentVariable("PATH") ?? "")
            .Split(':')
            .Select(folder => Path.Combine(folder, program))
            .Prepend(Path.Combine(Kubectl.Repository, "artifacts", "prometheus", "usr", "bin", program))
            .FirstOrDefault(File.Exists);
        if (found is null)
            Requirement.IsMissing(HowTo);
        return found;
    }
}
