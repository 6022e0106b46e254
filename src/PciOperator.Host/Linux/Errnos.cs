namespace PciOperator.Host;

/// <summary>Linux error numbers (asm-generic/errno.h) that hosts answer with, their names and words.</summary>
public static class Errnos
{
    /// <summary>Operation not permitted.</summary>
    public const int EPERM = 1;

    /// <summary>No such file.</summary>
    public const int ENOENT = 2;

    /// <summary>No such process.</summary>
    public const int ESRCH = 3;

    /// <summary>Interrupted call.</summary>
    public const int EINTR = 4;

    /// <summary>Input/output error.</summary>
    public const int EIO = 5;

    /// <summary>No such device or address.</summary>
    public const int ENXIO = 6;

    /// <summary>Try again.</summary>
    public const int EAGAIN = 11;

    /// <summary>Out of memory.</summary>
    public const int ENOMEM = 12;

    /// <summary>Permission denied.</summary>
    public const int EACCES = 13;

    /// <summary>Device or resource busy.</summary>
    public const int EBUSY = 16;

    /// <summary>File exists.</summary>
    public const int EEXIST = 17;

    /// <summary>No such device.</summary>
    public const int ENODEV = 19;

    /// <summary>The folder has something in it.</summary>
    public const int ENOTEMPTY = 39;

    /// <summary>Not a directory.</summary>
    public const int ENOTDIR = 20;

    /// <summary>Is a directory.</summary>
    public const int EISDIR = 21;

    /// <summary>Invalid argument.</summary>
    public const int EINVAL = 22;

    /// <summary>The device or driver has no such operation.</summary>
    public const int ENOTTY = 25;

    /// <summary>No space left.</summary>
    public const int ENOSPC = 28;

    /// <summary>Read-only file system.</summary>
    public const int EROFS = 30;

    /// <summary>Out of range.</summary>
    public const int ERANGE = 34;

    /// <summary>Name too long.</summary>
    public const int ENAMETOOLONG = 36;

    /// <summary>Too many symbolic links.</summary>
    public const int ELOOP = 40;

    /// <summary>Operation not supported.</summary>
    public const int EOPNOTSUPP = 95;

    /// <summary>Cannot assign the requested address.</summary>
    public const int EADDRNOTAVAIL = 99;

    /// <summary>No buffer space.</summary>
    public const int ENOBUFS = 105;

    /// <summary>Timed out.</summary>
    public const int ETIMEDOUT = 110;

    /// <summary>Quota exceeded.</summary>
    public const int EDQUOT = 122;

    /// <summary>No medium in the drive.</summary>
    public const int ENOMEDIUM = 123;

    /// <summary>"EBUSY"; "errno 200" when unknown.</summary>
    public static string Name(int errno) => Find(errno).Name ?? $"errno {errno}";

    /// <summary>"device or resource busy".</summary>
    public static string Text(int errno) => Find(errno).Text ?? "see errno(3)";

    /// <summary>Whether it says that the file, its device or its process isn't there.</summary>
    public static bool IsAbsence(int errno) => errno is ENOENT or ENOTDIR or ENODEV or ENXIO or ESRCH;

    private static (string? Name, string? Text) Find(int errno) =>
        errno switch
        {
            EPERM => (nameof(EPERM), "operation not permitted"),
            ENOENT => (nameof(ENOENT), "no such file"),
            ESRCH => (nameof(ESRCH), "no such process"),
            EINTR => (nameof(EINTR), "interrupted"),
            EIO => (nameof(EIO), "input/output error"),
            ENXIO => (nameof(ENXIO), "no such device or address"),
            EAGAIN => (nameof(EAGAIN), "try again"),
            ENOMEM => (nameof(ENOMEM), "out of memory"),
            EACCES => (nameof(EACCES), "permission denied"),
            EBUSY => (nameof(EBUSY), "device or resource busy"),
            EEXIST => (nameof(EEXIST), "file exists"),
            ENODEV => (nameof(ENODEV), "no such device"),
            ENOTDIR => (nameof(ENOTDIR), "not a folder"),
            EISDIR => (nameof(EISDIR), "is a folder"),
            EINVAL => (nameof(EINVAL), "invalid argument"),
            ENOTTY => (nameof(ENOTTY), "not possible with this device"),
            ENOSPC => (nameof(ENOSPC), "no space left"),
            EROFS => (nameof(EROFS), "read-only file system"),
            ENAMETOOLONG => (nameof(ENAMETOOLONG), "the name is too long"),
            ELOOP => (nameof(ELOOP), "too many symbolic links"),
            EDQUOT => (nameof(EDQUOT), "the quota is used up"),
            ERANGE => (nameof(ERANGE), "out of range"),
            EOPNOTSUPP => (nameof(EOPNOTSUPP), "not supported"),
            EADDRNOTAVAIL => (nameof(EADDRNOTAVAIL), "cannot assign the address"),
            ENOBUFS => (nameof(ENOBUFS), "no buffer space"),
            ETIMEDOUT => (nameof(ETIMEDOUT), "timed out"),
            ENOMEDIUM => (nameof(ENOMEDIUM), "no medium in the drive"),
            _ => (null, null),
        };
}
