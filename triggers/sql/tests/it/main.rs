//! Real databases: SQLite files, the PostgreSQL server of `TEST_POSTGRES_URL`, and, only where there is one, the MySQL or
//! MariaDB server of `TEST_MYSQL_URL`.

mod listening;
mod looks;
mod postgres;
mod specs;
mod sqlite;
mod stage;
