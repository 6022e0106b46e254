namespace PciOperator.Testing;

/// <summary>
/// A test API server that is stopped and started again on its port, with the etcd that it had or with an earlier copy of it. It has a new
/// certificate each time, so its clients take any, and are known by tokens.
/// </summary>
public sealed class RestorableServer : IAsyncDisposable
{
    /// <summary>Why there is none, and how to have one.</summary>
    public const string HowTo = "No API server whose etcd a test can put back: set PCI_TEST_APISERVER (a test API server's binary).";

    private readonly string _binary;
    private readonly DirectoryInfo _folder;
    private readonly int _port;
    private ServerProcess? _process;

    private RestorableServer(string binary, DirectoryInfo folder, int port) => (_binary, _folder, _port) = (binary, folder, port);

    /// <summary>The administrator's, good for every start.</summary>
    public string KubeconfigText =>
        $$$"""
            {"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],
             "clusters":[{"name":"c","cluster":{"server":"https://127.0.0.1:{{{_port}}}","insecure-skip-tls-verify":true}}],"users":[{"name":"u","user":{"token":"admin"}}]}
            """;

    private string Etcd => Path.Combine(Data, "etcd");

    private string Data => Path.Combine(_folder.FullName, "data");

    private string Copy => Path.Combine(_folder.FullName, "copy");

    /// <summary>Starts one.</summary>
    public static async Task<RestorableServer> StartAsync(string binary)
    {
        var server = new RestorableServer(binary, Directory.CreateTempSubdirectory("pcioperator-restorable-"), ServerProcess.FreePort());
        try
        {
            await server.StartAsync();
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <summary>Copies etcd's data as they are now; the server is away meanwhile.</summary>
    public Task SnapshotAsync() => AwayAsync(() => CopyFolder(Etcd, Copy));

    /// <summary>Puts the copy back; the server is away meanwhile.</summary>
    public Task RestoreAsync() =>
        AwayAsync(() =>
        {
            Directory.Delete(Etcd, recursive: true);
            CopyFolder(Copy, Etcd);
        });

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_process is not null)
            await _process.DisposeAsync();
        _folder.Delete(recursive: true);
    }

    private async Task AwayAsync(Action change)
    {
        // Killed: an orderly end waits for the watches. etcd's log is whole all the same.
        await _process!.DisposeAsync();
        change();
        await StartAsync();
    }

    private async Task StartAsync()
    {
        Directory.CreateDirectory(Data);
        _process = ServerProcess.Start(_binary, ["-dir", Data, "-port", $"{_port}"]);
        await _process.ReadyAsync();
    }

    private static void CopyFolder(string from, string to)
    {
        foreach (string file in Directory.GetFiles(from, "*", SearchOption.AllDirectories))
        {
            string target = Path.Combine(to, Path.GetRelativePath(from, file));
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            File.Copy(file, target, overwrite: true);
        }
    }
}
