using System.Diagnostics;
using System.Text.RegularExpressions;
using PciOperator.Testing;

namespace PciOperator.Tests.Docs;

/// <summary>Somebody who has a clone of the repository, a shell and a kubeconfig, and types what a page says.</summary>
internal sealed partial class Reader : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("pcioperator-reader-").FullName;

    /// <summary>The clone.</summary>
    public string Clone => Path.Combine(_folder, "clone");

    private string Home => Path.Combine(_folder, "home");

    private Reader() { }

    /// <summary>Clones what the checkout has now, with what is not committed yet.</summary>
    /// <param name="kubeconfigText">The administrator's access.</param>
    public static async Task<Reader> StartAsync(string kubeconfigText)
    {
        var reader = new Reader();
        Directory.CreateDirectory(reader.Clone);
        Directory.CreateDirectory(reader.Home);
        await File.WriteAllTextAsync(Path.Combine(reader._folder, "kubeconfig"), kubeconfigText);
        // A file that was deleted and is still in the index is no part of it.
        (int code, string said) = await reader.TryAsync(
            $"cd '{Kubectl.Repository}' && git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -T - -cf - 2> /dev/null | tar -xf - -C '{reader.Clone}'"
        );
        Assert.True(code == 0, said);
        return reader;
    }

    /// <summary>A file in the clone.</summary>
    public string PathOf(string file) => Path.Combine(Clone, file);

    /// <summary>Types a command; what it prints.</summary>
    public async Task<string> RunAsync(string command)
    {
        (int code, string said) = await TryAsync(command);
        Assert.True(code == 0, $"{command}\nended with {code}: {said}");
        return said;
    }

    /// <summary>Types a command; its exit code and all that it printed.</summary>
    public async Task<(int Code, string Said)> TryAsync(string command)
    {
        var typed = Stopwatch.StartNew();
        using Process process = Start(command);
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> errors = process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        TestContext.Current.TestOutputHelper?.WriteLine($"{typed.ElapsedMilliseconds, 6} ms  {command.Split('\n')[0]}");
        return (process.ExitCode, await output + await errors);
    }

    /// <summary>The lines that server-side apply would change, but for those that the server or kubectl write of themselves.</summary>
    /// <param name="arguments">What is compared, for <c>kubectl diff --server-side</c>.</param>
    public async Task<IReadOnlyList<string>> ChangesAsync(string arguments)
    {
        (int code, string said) = await TryAsync($"kubectl diff --server-side {arguments}");
        // 1: there are differences.
        Assert.True(code is 0 or 1, said);
        return [.. said.Split('\n').Where(l => l.StartsWith('+') || l.StartsWith('-')).Where(l => !Unimportant().IsMatch(l))];
    }

    [GeneratedRegex(
        """^(\+\+\+|---) |^. +(resourceVersion|generation|uid|creationTimestamp):|^. +(kubectl.kubernetes.io/last-applied|\{"apiVersion")"""
    )]
    private static partial Regex Unimportant();

    /// <summary>Types a command that goes on until it is stopped.</summary>
    public Process Start(string command)
    {
        var start = new ProcessStartInfo("bash", ["-o", "pipefail", "-c", command])
        {
            WorkingDirectory = Clone,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        start.Environment["HOME"] = Home;
        start.Environment["KUBECONFIG"] = Path.Combine(_folder, "kubeconfig");
        start.Environment["PATH"] = $"{Path.Combine(Home, ".local", "bin")}:{Environment.GetEnvironmentVariable("PATH")}";
        // It finds nothing to change, and a pager would wait for a key.
        start.Environment["EDITOR"] = "true";
        start.Environment["KUBECTL_PAGER"] = "";
        // `make test` tells its own children how to make.
        foreach (string name in new[] { "MAKEFLAGS", "MFLAGS", "MAKELEVEL" })
            start.Environment.Remove(name);
        Process process = Process.Start(start)!;
        process.StandardInput.Close();
        return process;
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}
