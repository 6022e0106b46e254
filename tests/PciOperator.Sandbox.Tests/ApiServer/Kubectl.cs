using System.Diagnostics;
using PciOperator.Testing;

namespace PciOperator.Sandbox.Tests.ApiServer;

/// <summary>The real kubectl, for tests that show what a person would see.</summary>
internal sealed class Kubectl : IDisposable
{
    private static readonly string? Path = (Environment.GetEnvironmentVariable("PATH") ?? "")
        .Split(':')
        .Select(folder => System.IO.Path.Combine(folder, "kubectl"))
        .FirstOrDefault(File.Exists);

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("pcioperator-kubectl-");

    public Kubectl(string kubeconfig)
    {
        Kubeconfig = Write("kubeconfig", kubeconfig);
    }

    public string Kubeconfig { get; }

    public string Write(string name, string text)
    {
        string path = System.IO.Path.Combine(_folder.FullName, name);
        File.WriteAllText(path, text);
        return path;
    }

    /// <summary>Runs kubectl with a manifest on its standard input, where there is one, and gives what it printed.</summary>
    public async Task<Output> RunAsync(string[] arguments, string? input = null)
    {
        if (Path is null)
            Requirement.IsMissing("No kubectl on PATH: install it to run the tests that drive it.");
        var start = new ProcessStartInfo(Path, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            Environment = { ["KUBECONFIG"] = Kubeconfig, ["HOME"] = _folder.FullName },
        };
        using Process process = Process.Start(start)!;
        await process.StandardInput.WriteAsync(input);
        process.StandardInput.Close();
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        Task<string> output = process.StandardOutput.ReadToEndAsync(patience.Token);
        Task<string> error = process.StandardError.ReadToEndAsync(patience.Token);
        await process.WaitForExitAsync(patience.Token);
        return new Output(process.ExitCode, await output, await error);
    }

    /// <summary>As <see cref="RunAsync"/>, of one line of arguments without quotes; it has to succeed.</summary>
    public async Task<string> DoAsync(string arguments, string? input = null)
    {
        Output output = await RunAsync(arguments.Split(' ', StringSplitOptions.RemoveEmptyEntries), input);
        Assert.True(output.ExitCode == 0, $"kubectl {arguments}: {output.Error}{output.Text}");
        return output.Text;
    }

    /// <summary>As <see cref="DoAsync"/>; it has to fail. Gives the error.</summary>
    public async Task<string> FailAsync(string arguments, string? input = null)
    {
        Output output = await RunAsync(arguments.Split(' ', StringSplitOptions.RemoveEmptyEntries), input);
        Assert.True(output.ExitCode != 0, $"kubectl {arguments} should have failed: {output.Text}");
        return output.Error;
    }

    public void Dispose() => _folder.Delete(recursive: true);

    internal sealed record Output(int ExitCode, string Text, string Error);
}
